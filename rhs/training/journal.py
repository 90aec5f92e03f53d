"""A run's progress in lines, on the screen and in the run's folder.

Ray can forward what workers print, with every library's remarks and a prefix on each line. The
journal carries our lines alone, and stays with the run.
"""

import errno
import sys
import time
from functools import cache
from pathlib import Path


def write(journal: Path, line: str) -> None:
    """Print one line, with the time, and append it; on a full disk it is printed alone."""
    whole = f"{time.strftime('%H:%M:%S')}  {line}"
    print(whole, flush=True)
    try:
        journal.parent.mkdir(parents=True, exist_ok=True)
        with journal.open("a", encoding="utf-8") as file:
            file.write(whole + "\n")
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _tell_of_full_disk(journal)


@cache  # once is enough
def _tell_of_full_disk(journal: Path) -> None:
    print(f"No space left on the disk that holds {journal}: lines are missing there.",
          file=sys.stderr, flush=True)  # fmt: skip
