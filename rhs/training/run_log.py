"""A run's progress in lines, on the screen and in the run's folder.

Ray can forward what workers print, with every library's remarks and a prefix on each line. The
journal carries our lines alone, and stays with the run.
"""

import os
import sys
import time
from functools import cache
from pathlib import Path

from rhs.errors import is_disk_full


def of_epoch(row: dict, epochs: int) -> str:
    """What an epoch came to, in a line."""
    recall = f"  val Recall@1 {row['val_recall@1']:.1%}" if "val_recall@1" in row else ""
    return (
        f"epoch {row['epoch']}/{epochs}  loss {row['loss']:.4f}{recall}  "
        f"{row['images_per_second']:,.0f} images/s"
    )


def write(journal: Path, line: str) -> None:
    """Print one line, with the time, and append it."""
    whole = f"{time.strftime('%H:%M:%S')}  {line}"
    print(whole, flush=True)
    append(journal, whole)


def append(path: Path, line: str) -> None:
    """Add a line to a file, or nothing where the disk is full: that must not end training."""
    path.parent.mkdir(parents=True, exist_ok=True)
    end = path.stat().st_size if path.exists() else 0
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    except OSError as error:
        if not is_disk_full(error):
            raise
        if path.exists():
            os.truncate(path, end)
        _tell_of_full_disk(path)


@cache  # once is enough
def _tell_of_full_disk(path: Path) -> None:
    print(
        f"No space left on the disk that holds {path}: lines are missing there.",
        file=sys.stderr,
        flush=True,
    )
