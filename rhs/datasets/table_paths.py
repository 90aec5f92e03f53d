"""The file that a path of a table means: as it is written, or else by another spelling of it."""

import os
import re
import unicodedata
from collections import defaultdict
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://|data:")
_DRIVE = re.compile(r"[A-Za-z]:[\\/]|\\\\")


class Paths:
    """Finds the files of a table.

    Args:
        folder: where relative paths start.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = os.path.abspath(folder)
        self._known = lru_cache(1024)(_by_spelling)

    def find(self, path: str) -> str:
        """The absolute path of the file that `path` means.

        It is found as it is written; else with the slashes of Windows turned, "%20" and the like
        replaced, or quotes left out; else by a name on the disk that differs in upper and lower
        case, or in how its accents are written (as on a Mac), if there is one such name.

        Raises:
            FileNotFoundError: there is none; its text says why, as "kind: detail".
            OSError: a folder of it cannot be looked into.
        """
        if path.lower().startswith("file:"):
            path = unquote(urlsplit(path).path)
        elif _ADDRESS.match(path):
            raise FileNotFoundError(
                "it is an address: images are read from the disk; download them, "
                "and give their paths"
            )
        ways = [os.path.abspath(os.path.join(self._folder, way)) for way in _spellings(path)]
        for way in ways:
            if _exists(way):
                return way
        for way in ways:
            if near := self._near(way):
                return near
        if _DRIVE.match(path):
            raise FileNotFoundError(
                "it is a path of Windows, which this machine does not have; write paths relative "
                "to a folder, and give that as dataset.fetch.root"
            )
        raise FileNotFoundError(
            f"there is no such file in {self._folder} (dataset.fetch.root is where paths start)"
        )

    def _near(self, file: str) -> str | None:
        parent, name = os.path.split(file)
        if parent == file:
            return file
        real = parent if os.path.isdir(parent) else self._near(parent)
        found = self._known(real).get(_folded(name), ()) if real else ()
        return os.path.join(real, found[0]) if real and len(found) == 1 else None


def _exists(file: str) -> bool:
    """Unlike that of `os.path`, with an error where it cannot be known."""
    try:
        os.stat(file)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _spellings(path: str) -> list[str]:
    ways = [path]
    if len(path) > 2 and path[0] == path[-1] and path[0] in "'\"":
        ways.append(path[1:-1].strip())
    if path.startswith("~/"):
        ways.append(os.path.expanduser(path))
    ways += [way.replace("\\", "/") for way in ways if "\\" in way]
    ways += [unquote(way) for way in ways if "%" in way]
    return ways


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _by_spelling(folder: str) -> dict[str, list[str]]:
    names: dict[str, list[str]] = defaultdict(list)
    try:
        for name in sorted(os.listdir(folder)):
            names[_folded(name)].append(name)
    except OSError:  # the file is not found in it then, and that is told
        return {}
    return names
