"""Fingerprints of the files that parameters name, for DVC to depend on.

DVC itself stops, without a file's name, at what it cannot read, and waits for ever at a pipe. Here
whatever is no readable file is recorded by its kind and never opened, so that `fetch` can refuse it
by name and take the rest.
"""

import hashlib
import json
import os
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from tqdm import tqdm

from rhs.config.redact import without_secrets
from rhs.datasets import archive, table_columns
from rhs.datasets.table_paths import Paths
from rhs.errors import UserError
from rhs.paths import locate, project_folder
from rhs.storage.digest import file_digest
from rhs.storage.store import FolderStore

KINDS = {
    stat.S_IFIFO: "pipe",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
    stat.S_IFDIR: "folder",
}
INPUTS = Path("data/inputs")
CLASS_LISTS = ("train_classes", "test_classes")
FOLDER, TABLE = "rhs.datasets.folder.fetch", "rhs.datasets.table.fetch"
ACCEPTED = {FOLDER: archive.ACCEPTED, TABLE: table_columns.ACCEPTED}
SETTLED = 2.0  # seconds: a file that is younger may change again without a new time


class Seen:
    """Checksums of files that were read before, so that what did not change is not read again.

    Args:
        file: keeps them; one that is damaged or absent only costs the time to read again.
    """

    def __init__(self, file: Path):
        self.file = file
        self._old: dict[str, list] = {}
        self._new: dict[str, list] = {}
        with suppress(OSError, ValueError):
            read = json.loads(file.read_text())
            self._old = read if isinstance(read, dict) else {}

    def sha256(self, path: str, status: os.stat_result) -> str:
        """Of a regular file. Raises OSError where it cannot be read."""
        # The time of the last change of the inode too: `touch -d`, `rsync -t` and `chmod` move it.
        times = (status.st_mtime_ns, status.st_ctime_ns)
        identity = [status.st_dev, status.st_ino, status.st_size, *times]
        if self._old.get(path, [None])[:-1] == identity:
            digest = str(self._old[path][-1])
        else:
            digest = file_digest(path)
        if max(times) / 1e9 < time.time() - SETTLED:
            self._new[path] = [*identity, digest]
        return digest

    def __enter__(self) -> "Seen":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.save(whole=kind is None)

    def save(self, whole: bool = True) -> None:
        """Keep what was asked for; of what is not `whole`, what was not asked for yet too."""
        kept = self._new if whole else self._old | self._new
        if kept != self._old:
            FolderStore(self.file.parent).write(self.file.name, json.dumps(kept).encode())


def seen_of(dataset: str) -> Seen:
    """What was seen of the data set of that name, by whichever command."""
    return Seen(project_folder() / INPUTS / f".{dataset}.seen.json")


def look(path: Path, seen: Seen) -> dict[str, Any]:
    """What lies at `path`: {"kind", "files", "bytes", "sha256"}.

    The kind is "file", "folder", "missing", or what else it is. The checksum is of a file's bytes;
    of a folder, of the names and checksums of everything in it.
    """
    try:
        status = path.stat()
    except OSError as error:
        return {"kind": "missing" if not os.path.lexists(path) else _why(error)}
    if stat.S_ISREG(status.st_mode):
        word, size = _word(str(path.resolve()), seen)
        return {"kind": "file", "files": 1, "bytes": size, "sha256": word}
    if not stat.S_ISDIR(status.st_mode):
        return {"kind": _kind(status)}
    return {"kind": "folder", **look_at_all(_beneath(path), seen, path)}


def look_at_all(paths: list[str], seen: Seen, root: Path) -> dict[str, Any]:
    """{"files", "bytes", "sha256"} of many files, in their order.

    Args:
        root: names beneath it count from there, so that it may lie elsewhere.
    """
    digest, total = hashlib.sha256(), 0
    within = os.path.join(root, "")
    for path in tqdm(paths, "inputs", unit=" files", leave=False, disable=None):
        word, size = _word(path, seen)
        digest.update(os.fsencode(path.removeprefix(within)) + b"\0" + os.fsencode(word) + b"\0")
        total += size
    return {"files": len(paths), "bytes": total, "sha256": digest.hexdigest()}


def look_at_source(dataset: dict[str, Any], seen: Seen) -> dict[str, Any]:
    """The source of a data set, and the images where it is a table.

    Args:
        dataset: the parameters of the group `dataset`.

    Raises:
        UserError: there is no such file or folder: nothing may be removed for it.
    """
    source, recipe = dataset.get("source"), dataset.get("fetch")
    place = locate(str(source))
    target = str(recipe.get("_target_")) if isinstance(recipe, dict) else ""
    looked = {"source": look(place, seen)}
    if (what := looked["source"]["kind"]) not in ("file", "folder"):
        what = "does not exist" if what == "missing" else f"is no file or folder ({what})"
        accepted = ACCEPTED.get(target, "a file or folder")
        raise UserError(
            f"dataset.source {without_secrets(str(source))} {what}; accepted: {accepted}."
        )
    if isinstance(recipe, dict) and target == TABLE:
        with suppress(UserError, OSError, LookupError):  # it cannot be read: fetch says it
            root = Path(os.path.abspath(_root(place, recipe)))
            looked["images"] = look_at_all(_listed(place, recipe, root), seen, root)
    return looked


def look_at_classes(dataset: dict[str, Any], seen: Seen) -> dict[str, Any]:
    """The text files of class names that the parameters name; None where they name none."""
    looked: dict[str, Any] = dict.fromkeys(CLASS_LISTS)
    for key in CLASS_LISTS:
        given = dataset.get(key)
        if isinstance(given, str) and os.path.isfile(place := locate(given)):
            looked[key] = look(place, seen)
    return looked


def _root(table: Path, recipe: dict[str, Any]) -> Path:
    return locate(str(recipe["root"])) if recipe.get("root") else table.parent


def _listed(table: Path, recipe: dict[str, Any], root: Path) -> list[str]:
    """The files that a table names, sorted, each once."""
    wanted = {"path": str(recipe.get("path", "path")).strip()}
    column = table_columns.read_columns(table, wanted, encoding=recipe.get("encoding"))["path"]
    rows = {(path or "").strip() for path in column.to_pylist()} - {""}
    paths = Paths(root)
    return sorted({_file(paths, root, row) for row in rows if "\0" not in row})


def _file(paths: Paths, root: Path, row: str) -> str:
    """The file that a path of a table means; as it is written where there is none."""
    try:
        return os.path.abspath(paths.find(row))
    except OSError:
        return os.path.abspath(root / row)


def _beneath(root: Path) -> list[str]:
    """Everything beneath a folder but folders, sorted; links to folders are not followed."""
    paths: list[str] = []

    def unreadable(error: OSError) -> None:
        paths.append(str(error.filename))

    for folder, subfolders, files in os.walk(root, onerror=unreadable):
        links = [name for name in subfolders if os.path.islink(os.path.join(folder, name))]
        paths += [os.path.join(folder, name) for name in files + links]
    return sorted(paths)


def _word(path: str, seen: Seen) -> tuple[str, int]:
    """A file's checksum and size, or what else it is; a link's word has its target's name too."""
    link = ""
    try:
        status = os.lstat(path)
        if stat.S_ISLNK(status.st_mode):
            link = f"link to {os.readlink(path)}: "
            status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            return f"{link}{_kind(status)}", 0
        return f"{link}{seen.sha256(path, status)}", status.st_size
    except OSError as error:
        return f"{link}{_why(error)}", 0


def _kind(status: os.stat_result) -> str:
    return KINDS.get(stat.S_IFMT(status.st_mode), "unknown")


def _why(error: OSError) -> str:
    return f"unreadable: {error.strerror}"
