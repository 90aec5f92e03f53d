"""One writer at a time: a lock on the folder, or a lease in the object store, that keeps a run.

A folder's lock belongs to the operating system, which frees it when its holder is killed. An object
store has no locks. There the holder writes `lease.json` again every few seconds; whoever finds one
watches whether it changes, by his own clock alone, and takes over from a holder that is silent.

A holder may be cut off, taken over, and come back. So each names itself in the object `owner`, and
who writes for it asks `is_owner` first.
"""

import errno
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from rhs.errors import UserError, is_disk_full
from rhs.storage.store import FolderStore, Store

OWNER, LEASE = "owner", "lease.json"
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)  # of a network's file system


@contextmanager
def exclusive(
    store: Store | Path, what: str, beat: float = 10.0, silence: float = 25.0
) -> Iterator[str]:
    """Hold `store` while the block runs; yields the holder's name, for `is_owner`.

    Args:
        what: is held, for messages: "run glyphs-npair-convnet-1a2b3c4d".
        beat: seconds between two signs of life in an object store.
        silence: seconds without one after which a holder counts as gone.

    Raises:
        UserError: another process holds it, or the store cannot be used.
    """
    store = FolderStore(store) if isinstance(store, Path) else store
    me = _name()
    with _told(store, what):
        lock = _lock(store, what) if isinstance(store, FolderStore) else None
        if lock is None:
            _wait_for_silence(store, what, silence)
        store.write(OWNER, me.encode())
    try:
        if lock is not None:
            yield me
        else:
            with _leased(store, what, me, beat):
                yield me
    finally:
        # Where this fails, the next holder finds what a killed one leaves.
        with suppress(OSError):
            if is_owner(store, me):
                store.delete(OWNER)
        if lock is not None:
            file = Path(lock.lock_file)
            file.unlink(missing_ok=True)  # while it is held, and so ours
            lock.release()
            with suppress(OSError):  # what nothing came to is not left behind
                file.parent.rmdir()
                file.parent.parent.rmdir()


def is_owner(store: Store, owner: str) -> bool:
    """Whether the holder that `exclusive` named `owner` has neither ended nor been taken over.

    Raises:
        OSError: the store is away, which says nothing about that.
    """
    return _read(store, OWNER) == owner


def _lock(folder: FolderStore, what: str) -> FileLock | None:
    """The lock of a folder, held; None where its file system has none."""
    folder.path.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.path / ".lock", fallback_to_soft=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise _refusal(folder, what) from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return None
    return lock


def _wait_for_silence(store: Store, what: str, silence: float) -> None:
    """Return once nobody shows signs of life in the store; raises UserError if somebody does."""
    first = _read(store, LEASE)
    if first is None:
        return
    print(
        f"{what} may still be trained by {_holder(store)}: waiting {silence:g} s for a sign of it",
        flush=True,
    )
    end = time.monotonic() + silence
    while time.monotonic() < end:
        time.sleep(min(1.0, silence / 20))
        now = _read(store, LEASE)
        if now is None:
            return  # it ended just now
        if now != first:
            raise _refusal(store, what)
    print(f"{what}: no sign, so it is taken over", flush=True)


@contextmanager
def _leased(store: Store, what: str, me: str, beat: float) -> Iterator[None]:
    """Show signs of life while the block runs; of several that begin at once the last one stays."""
    with _told(store, what):
        _sign(store, me, 0)
        time.sleep(min(1.0, beat / 10))
        if not is_owner(store, me):
            raise _refusal(store, what)
    ended = threading.Event()
    beating = threading.Thread(target=_beat, args=(store, what, me, beat, ended), daemon=True)
    beating.start()
    try:
        yield
    finally:
        ended.set()
        beating.join()  # or its last sign would come after the lease is gone
        with suppress(OSError):
            if is_owner(store, me):
                store.delete(LEASE)


def _beat(store: Store, what: str, me: str, beat: float, ended: threading.Event) -> None:
    """Renew the lease until `ended`, or until somebody else has it."""
    beats, away = 0, False
    while not ended.wait(beat):
        beats += 1
        with _noted(what, away) as failed:
            if not is_owner(store, me):
                print(f"{what} was taken over by {_holder(store)}", flush=True)
                return
            _sign(store, me, beats)
        away = bool(failed)


@contextmanager
def _noted(what: str, known: bool) -> Iterator[list[OSError]]:
    """A store that is away may come back: said once, and tried again at the next beat."""
    failed: list[OSError] = []
    try:
        yield failed
    except OSError as error:
        failed.append(error)
        if not known:
            print(f"{what}: its lease cannot be renewed for now ({error})", flush=True)


def _sign(store: Store, me: str, beats: int) -> None:
    store.write(LEASE, json.dumps({"holder": me, "beats": beats}).encode())


def _name() -> str:
    """Which process this is, for people, with a part that no other holder has."""
    since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    process = f"process {os.getpid()} on {socket.gethostname()} since {since}"
    return f"{process} ({uuid.uuid4().hex[:12]})"


def _holder(store: Store) -> str:
    return (_read(store, OWNER) or "another process").partition(" (")[0]


def _refusal(store: Store, what: str) -> UserError:
    return UserError(
        f"{what} is in use by {_holder(store)}: wait for it, or stop it, then run the same command."
    )


def _read(store: Store, name: str) -> str | None:
    try:
        return store.read(name).decode()
    except FileNotFoundError:
        return None


@contextmanager
def _told(store: Store, what: str) -> Iterator[None]:
    """A store that cannot be used is told in one sentence; a full disk tells itself."""
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise
        raise UserError(
            f"{what} cannot be kept in {store.location} ({error}): a place is needed that can be "
            "written."
        ) from error
