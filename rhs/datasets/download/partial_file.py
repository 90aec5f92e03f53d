"""A file that is not yet whole: its bytes, its progress, and the disk that must hold it."""

import errno
import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from rhs.errors import UserError
from rhs.storage.atomic import flush

CHUNK = 1 << 18  # bytes


class DownloadFailed(Exception):
    """An address did not give the file; the text says why in a few words."""


class PartialFile:
    """A file that is not yet whole, and notes beside it on what it is a part of."""

    def __init__(self, target: Path):
        self.name = target.name
        self.path = target.with_name(f"{target.name}.part")
        self.notes_path = target.with_name(f"{target.name}.part.json")

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def notes(self) -> dict[str, Any]:
        try:
            return json.loads(self.notes_path.read_text())
        except (FileNotFoundError, json.JSONDecodeError):  # the latter: killed while writing them
            return {}

    def note(self, url: str, validator: str | None, total: int | None) -> None:
        notes = {"url": url, "validator": validator, "total": total}
        self.notes_path.write_text(json.dumps(notes))

    def discard(self) -> None:
        for path in (self.path, self.notes_path):  # without the part, its notes say nothing
            path.unlink(missing_ok=True)

    def become(self, target: Path) -> None:
        """Flush to disk, then take the file's own name: whatever has that name is whole."""
        with naming_errors(target):
            flush(self.path)
            self.path.replace(target)
            flush(target.parent)
        self.discard()


@contextmanager
def naming_errors(path: Path) -> Iterator[None]:
    """A full disk's error names the file, so that the user is told which disk."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC and error.filename is None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def check_space(path: Path, needed: int) -> None:
    """Raises UserError if the disk that holds `path`, a file to be, has fewer bytes free."""
    free = shutil.disk_usage(path.parent).free
    if needed > free:
        raise UserError(
            f"{path.name.removesuffix('.part')} needs {human_size(needed)} more, and the disk that "
            f"holds {path.parent} has {human_size(free)} free: free some or set fetch.folder to a "
            "folder on another disk."
        )


def human_size(size: float) -> str:
    return tqdm.format_sizeof(size, "B")


def byte_bar(name: str, total: int | None, done: int = 0) -> tqdm:
    """Progress in bytes, with rate and time left."""
    return tqdm(
        total=total, initial=done, desc=name, unit="B", unit_scale=True, leave=False, disable=None
    )


def wrong_digest(path: Path, digest: str | None) -> str | None:
    """None if the file has this digest, otherwise a few words that name both."""
    if digest is None:
        return None
    kind, _, expected = digest.partition(":")
    assert kind in ("md5", "sha256"), digest
    hasher = hashlib.new(kind, usedforsecurity=False)
    with path.open("rb") as stream, byte_bar(f"check {path.name}", path.stat().st_size) as bar:
        while data := stream.read(CHUNK):
            hasher.update(data)
            bar.update(len(data))
    if hasher.hexdigest() == expected.lower():
        return None
    return f"wrong bytes, {kind}:{hasher.hexdigest()} instead of {digest}"


def copy(source: Path, part: PartialFile) -> None:
    """Copy a file of a mirror folder.

    Raises:
        DownloadFailed: it cannot be read.
        UserError: not enough space for it.
    """
    if not source.is_file():
        raise DownloadFailed("no such file")
    part.discard()
    size = source.stat().st_size
    check_space(part.path, size)
    try:
        with (
            naming_errors(part.path),
            source.open("rb") as stream,
            part.path.open("wb") as out,
            byte_bar(source.name, size) as bar,
        ):
            while data := stream.read(CHUNK):
                out.write(data)
                bar.update(len(data))
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        raise DownloadFailed(str(error)) from None
