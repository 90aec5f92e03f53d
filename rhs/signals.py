"""Signals that ask a process to end: one line and 128 + their number, from its first moment on.

Imported before anything else, as imports take seconds: it pulls in nothing that a Python process
has not loaded already.
"""

import _thread
import atexit
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from rhs.errors import Interrupted

ASKING = (signal.SIGINT, signal.SIGTERM)
AGAIN = "interrupted; the same command starts again"
UNWINDING = 30.0  # seconds from a signal to the end, for what has to be put away
LEAVING = 10.0  # seconds that the interpreter's own end may take then


class _State:
    guarded = False  # the process is a command of ours: its end is ours to decide
    signum: int | None = None  # the first signal
    told = False  # the line was written
    lost = False  # the exception was raised where nobody could catch it


_state = _State()


def end_at_once(line: str = AGAIN) -> None:
    """From now on these signals end the process at once, with a line: nothing is to be saved.

    Called before the imports; it holds again when `interruptible` is over.
    """
    _state.guarded = True
    sys.unraisablehook = _unraisable

    def end(signum: int, frame: FrameType | None) -> None:
        _end(signum, line)

    for which in ASKING:
        signal.signal(which, end)
    atexit.register(_ignore)  # registered first, so called last


def _ignore() -> None:
    """All work is done. While the interpreter takes itself apart it would drop our handlers, and a
    signal would end the process without a line."""
    for which in ASKING:
        signal.signal(which, signal.SIG_IGN)


@contextmanager
def interruptible(line: str = AGAIN) -> Iterator[None]:
    """While the block runs, the first signal raises `Interrupted`; a second one ends the process.

    Only the main thread can: elsewhere signals stay as they are.
    """
    if _thread.get_ident() != _main():
        yield
        return
    _state.signum, _state.told, _state.lost = None, False, False

    def interrupt(signum: int, frame: FrameType | None) -> None:
        first, _state.signum = _state.signum, _state.signum or signum
        if first is None and _state.guarded:
            _thread.start_new_thread(_watch, (signum, line))
        elif first is not None and not _state.lost:
            _end(first, line)
        _state.lost = False
        raise Interrupted(signum, line)

    before = {which: signal.signal(which, interrupt) for which in ASKING}
    try:
        yield
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)


@contextmanager
def preserved_handlers() -> Iterator[None]:
    """Handlers that the block sets, as `ray.init` does, are gone after it."""
    before = {which: signal.getsignal(which) for which in ASKING}
    try:
        yield
    finally:
        if _thread.get_ident() == _main():
            for which, handler in before.items():
                signal.signal(which, handler)


def status_of(interrupt: BaseException, line: str = AGAIN) -> int:
    """Write the line of an interruption, and give the status to leave with.

    What is left is the interpreter's end. There libraries may complain of it or wait for processes
    that the same signal has ended: they are not heard, and not waited for long.
    """
    signum = getattr(interrupt, "signum", None) or _state.signum or signal.SIGINT
    _state.signum, status = signum, 128 + signum
    print(str(interrupt) if isinstance(interrupt, Interrupted) else line, file=sys.stderr)
    _state.told = True
    if _state.guarded:
        sys.stderr.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        _thread.start_new_thread(_wait, (LEAVING, status))
    return status


def _main() -> int | None:
    import threading

    return threading.main_thread().ident


def _watch(signum: int, line: str) -> None:
    """Where the exception was swallowed or nothing comes of it, the process ends all the same."""
    end = time.monotonic() + UNWINDING
    while time.monotonic() < end:
        time.sleep(0.1)
        if _state.told:
            return
        if _state.lost:
            os.kill(os.getpid(), signum)  # heard anew
    _end(signum, line)


def _wait(seconds: float, status: int) -> None:
    time.sleep(seconds)
    os._exit(status)


def _end(signum: int, line: str) -> None:
    """No buffers, no locks: it may be called anywhere."""
    if not _state.told:
        _state.told = True
        os.write(2, f"{line}\n".encode())
    os._exit(128 + (_state.signum or signum))


def _unraisable(unraisable: Any) -> None:
    """An interruption that came in a destructor or a callback is none yet, and no traceback."""
    if isinstance(unraisable.exc_value, KeyboardInterrupt):
        _state.lost = True
    else:
        sys.__unraisablehook__(unraisable)
