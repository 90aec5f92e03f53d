"""A run's progress in lines, on the screen and in the run's folder.

Ray can forward what workers print, with every library's remarks and a prefix on each line. The
journal carries our lines alone, and stays with the run.
"""

import time
from pathlib import Path


def write(journal: Path, line: str) -> None:
    """Append one line, with the time, and print it."""
    journal.parent.mkdir(parents=True, exist_ok=True)
    whole = f"{time.strftime('%H:%M:%S')}  {line}"
    with journal.open("a", encoding="utf-8") as file:
        file.write(whole + "\n")
    print(whole, flush=True)
