"""Where bytes are kept: a folder, or an object store that fsspec knows."""

import os
import re
from pathlib import Path
from typing import Protocol, TypeGuard
from urllib.parse import unquote, urlsplit

from rhs.storage.atomic import atomic_file
from rhs.storage.object_store import ObjectStore


class Store(Protocol):
    """Named byte strings, each there whole or not at all.

    Attributes:
        location: the folder, or the URL without any password in it: fit to be shown.
    """

    location: str

    def names(self) -> list[str]:
        """What lies directly in it, sorted, without leftovers of unfinished writes.

        [] if it does not exist.
        """

    def read(self, name: str) -> bytes:
        """Raises FileNotFoundError, or another OSError."""

    def write(self, name: str, data: bytes) -> None:
        """Replaces what was there under that name. Raises OSError; what was there stays then."""

    def delete(self, name: str) -> None:
        """Nothing happens where there is none of that name."""

    def delete_leftovers(self) -> None:
        """Delete what unfinished writes have left; the caller is the only writer."""


class FolderStore:
    """A Store on a disk of this machine, or one that it mounts."""

    def __init__(self, path: Path):
        self.path, self.location = path, str(path)

    def names(self) -> list[str]:
        if not self.path.is_dir():
            return []
        return sorted(p.name for p in self.path.iterdir() if p.is_file() and p.name[0] != ".")

    def read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()

    def write(self, name: str, data: bytes) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        with atomic_file(self.path / name) as partial:
            partial.write_bytes(data)

    def delete(self, name: str) -> None:
        (self.path / name).unlink(missing_ok=True)

    def delete_leftovers(self) -> None:
        for leftover in self.path.glob(".*.tmp"):
            if re.fullmatch(r"\..+\.[0-9a-f]{4,}\.tmp", leftover.name):  # of `atomic_file`
                leftover.unlink(missing_ok=True)


def is_url(location: str | Path | None) -> TypeGuard[str]:
    """Whether this names an object store; `file://` names a folder."""
    return location is not None and "://" in str(location) and not _file(str(location))


def open_store(location: str | Path) -> FolderStore | ObjectStore:
    """The store at a folder or URL.

    Raises:
        UserError: see ObjectStore.
    """
    if is_url(location):
        return ObjectStore(str(location))
    return FolderStore(_file(str(location)) or Path(os.path.expanduser(location)))


def _file(location: str) -> Path | None:
    if not location.startswith("file://"):
        return None
    return Path(unquote(urlsplit(location).path))
