"""Files and folders that exist whole or not at all."""

import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rhs.storage.locks import locked
from rhs.storage.outputs import refuse_others


@contextmanager
def atomic_folder(out: Path, patterns: Sequence[str]) -> Iterator[Path]:
    """Yield an empty folder beside `out` that becomes `out` when the block ends well.

    Everything in it is flushed to disk before the rename. If the block raises, the folder is
    removed and an older `out` stays as it was. What a killed run left behind is removed first.
    Of several processes with the same `out`, one at a time is in its block, and the last one's
    folder stays. A block must not open another one of the same `out`: it would wait for itself.

    Args:
        patterns: of the names that its files may have, see `rhs.storage.outputs`.

    Raises:
        UserError: what is to be replaced or removed holds files of other names, now or at the end.
    """
    building, old = out.with_name(f".{out.name}.tmp"), out.with_name(f".{out.name}.old")
    with _alone(out):
        if old.exists() and not out.exists():
            old.rename(out)  # killed between the two renames below
        for folder in (out, building, old):
            refuse_others(folder, patterns)
        for leftover in (building, old):
            shutil.rmtree(leftover, ignore_errors=True)
        building.mkdir()
        try:
            yield building
            for path in [*building.rglob("*"), building]:
                flush(path)
            if out.exists():
                refuse_others(out, patterns)
                out.rename(old)  # a folder cannot be renamed over one that is not empty
            building.rename(out)
            flush(out.parent)
        except BaseException:
            if old.exists() and not out.exists():
                old.rename(out)
            shutil.rmtree(building, ignore_errors=True)
            raise
        shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Hold the lock of `out`; the operating system frees that of a process that is killed."""
    out.parent.mkdir(parents=True, exist_ok=True)
    path = out.with_name(f".{out.name}.tmp.lock")
    lock = locked(path, f"another process is making {out}")
    try:
        yield
    finally:
        # While it is held: who waits opens the path anew and takes no lock on a file without name.
        path.unlink(missing_ok=True)
        lock.release()


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a path beside `path`, where the block writes a file that becomes `path` when it ends.

    The file is flushed to disk before that. If the block raises, it is removed, and an older `path`
    stays as it was.
    """
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        yield partial
        flush(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    flush(path.parent)


def flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
