"""A run's progress in lines: written by rank 0, shown where the run was started.

Ray can forward what workers print, with every library's remarks and a prefix on each line. The
journal carries our lines alone, and stays with the run.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write(journal: Path, line: str) -> None:
    """Append one line, with the time."""
    journal.parent.mkdir(parents=True, exist_ok=True)
    with journal.open("a", encoding="utf-8") as file:
        file.write(f"{time.strftime('%H:%M:%S')}  {line}\n")


@contextmanager
def shown(journal: Path, every: float = 0.5) -> Iterator[None]:
    """Print the lines that are added to the journal while the block runs."""
    start = journal.stat().st_size if journal.exists() else 0
    done = threading.Event()

    def follow() -> None:
        position = start
        while True:
            last = done.wait(every)
            if journal.exists():
                with journal.open(encoding="utf-8") as file:
                    file.seek(position)
                    print(file.read(), end="", flush=True)
                    position = file.tell()
            if last:
                return

    follower = threading.Thread(target=follow, daemon=True)
    follower.start()
    try:
        yield
    finally:
        done.set()
        follower.join()
