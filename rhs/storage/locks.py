"""Locks on files that are waited for: no process does what another one is at."""

from pathlib import Path

from filelock import FileLock, Timeout


def locked(path: Path, doing: str) -> FileLock:
    """The lock on the file `path`, held; whoever waits for it is told why, and of the file.

    It is waited for without end, as the other's work may take hours; the operating system frees the
    lock of a process that is killed.

    Args:
        doing: what the other process does then: "another process is fetching it".
    """
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        print(f"{doing}; waiting for it (its lock: {path})", flush=True)
        lock.acquire()
    return lock
