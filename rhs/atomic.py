"""Folders that exist whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """Yield an empty folder beside `out` that becomes `out` when the block ends well.

    Everything in it is flushed to disk before the rename. If the block raises, the folder is
    removed and an older `out` stays as it was. What a killed run left behind is removed first.
    """
    building, old = out.with_name(f".{out.name}.tmp"), out.with_name(f".{out.name}.old")
    if old.exists() and not out.exists():
        old.rename(out)  # killed between the two renames below
    for leftover in (building, old):
        shutil.rmtree(leftover, ignore_errors=True)
    building.mkdir(parents=True)
    try:
        yield building
        for path in [*building.rglob("*"), building]:
            _flush(path)
        if out.exists():
            out.rename(old)  # a folder cannot be renamed over one that is not empty
        building.rename(out)
        _flush(out.parent)
    except BaseException:
        if old.exists() and not out.exists():
            old.rename(out)
        shutil.rmtree(building, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
