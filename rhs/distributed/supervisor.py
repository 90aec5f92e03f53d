"""The driver's side of a run: relays what workers report, and forwards signals to them."""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rhs.distributed.mailbox import AGAIN, SHUTDOWN_SECONDS, Mailbox
from rhs.distributed.worker_deaths import TRAINING, death, describe_death
from rhs.errors import Interrupted, UserError

EVERY = 0.2  # seconds between looks into the mailbox


def poll_stop(mailbox: Mailbox, every: float = 0.5) -> threading.Event:
    """An event that is set once the mailbox says stop; asked in the background."""
    stopping = threading.Event()

    def ask() -> None:
        while not stopping.is_set():
            time.sleep(every)
            if mailbox.is_stopping():
                stopping.set()

    threading.Thread(target=ask, daemon=True).start()
    return stopping


@contextmanager
def deferred_signals() -> Iterator[list[int]]:
    """Collect SIGTERM and SIGINT in the list instead of ending at once; a second one does end.

    Only the main thread can: elsewhere the list stays empty.
    """
    seen: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield seen
        return

    def heed(signum: int, frame: Any) -> None:
        seen.append(signum)
        if len(seen) > 1:
            raise Interrupted(signum, "interrupted twice: ended without saving")

    before = {which: signal.signal(which, heed) for which in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield seen
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)


@contextmanager
def worker_deaths_as_user_errors(allowed: int) -> Iterator[None]:
    """Workers that died too often are no traceback: there is nothing in ours to mend."""
    from ray.exceptions import RayActorError, RayError
    from ray.train import TrainingFailedError

    try:
        yield
    except RayError as error:
        if death(error) is None:
            raise
        # Not tried again here: without a dashboard, its workers' place would never be free again.
        raise UserError(
            "The process of Ray Train's that leads the workers was lost "
            f"({describe_death(error, TRAINING)}): {AGAIN} from the last checkpoint."
        ) from error
    except TrainingFailedError as error:
        failures = getattr(error, "worker_failures", {})
        # What the others raise, as they lost it, is a consequence.
        died = [rank for rank, failure in failures.items() if _is_death(failure, RayActorError)]
        if not died:
            raise
        first = failures[died[0]]
        how = describe_death(getattr(first, "health_check_failure", first), TRAINING)
        raise UserError(
            f"Workers died more often than cluster.max_failures = {allowed} allows, the last time "
            f"rank {died[0]} ({how}): the same command continues from the last checkpoint."
        ) from error


def _is_death(failure: BaseException, death: type[BaseException]) -> bool:
    return isinstance(getattr(failure, "health_check_failure", failure), death)


def supervise(
    fit: Callable[[], Any],
    mailbox: Mailbox,
    deliver: dict[str, Callable[[Any], None]],
    signals: list[int],
    grace: float,
) -> None:
    """Run `fit`, delivering the workers' messages meanwhile, until it returns or is to stop.

    Args:
        deliver: what takes each kind of message. Heard here too are "training" (the first rank is
            ready), "stopped" (it has saved, as step ...) and "refusal": if `fit` does not return
            soon after that, it is no longer waited for, as other ranks wait for the first in vain.
        signals: see `heeding`.
        grace: seconds between the signal and the end, for the checkpoint.

    Raises:
        Interrupted: a signal came.
    """
    course = RunMonitor(mailbox, deliver, signals, grace)
    ended = _in_thread(fit)
    try:
        while not ended.wait(EVERY):
            course.hear()
            if course.is_refused_and_waited_for():
                return
            if signals:
                course.stop()
        course.hear()
        if ended.error is not None:
            raise ended.error
    except Exception as error:
        if signals:  # sent to a whole group of processes, it ends Ray too
            raise Interrupted(signals[0], f"stopped; {AGAIN} from the last checkpoint") from error
        raise


class RunMonitor:
    """What has been heard of a run, and asked of it."""

    def __init__(self, mailbox: Mailbox, deliver: dict, signals: list[int], grace: float):
        self.mailbox, self.deliver, self.signals, self.grace = mailbox, deliver, signals, grace
        self.training, self.deadline, self.left = False, math.inf, math.inf

    def hear(self) -> None:
        """Deliver the messages that have come."""
        for kind, what in self.mailbox.take():
            self.training |= kind == "training"
            if kind == "refusal":
                self.left = time.monotonic() + SHUTDOWN_SECONDS
            if kind in self.deliver:
                self.deliver[kind](what)
            if kind == "stopped" and self.signals:
                said = f"stopped after step {what}; {AGAIN} from there"
                raise Interrupted(self.signals[0], said)

    def is_refused_and_waited_for(self) -> bool:
        """Whether a refusal has been heard and the ranks have had time to hear of it too."""
        return self.left < math.inf and (bool(self.signals) or time.monotonic() > self.left)

    def stop(self) -> None:
        """Ask for the end, once, and insist on it when the time is up."""
        if self.deadline == math.inf:
            self.deadline = time.monotonic() + self.grace
            self.mailbox.stop()
        if self.training and time.monotonic() < self.deadline:
            return
        late = f" (no checkpoint within {self.grace:g} s)" if self.training else ""
        raise Interrupted(self.signals[0], f"stopped{late}; {AGAIN} from the last checkpoint")


class _Ended(threading.Event):
    error: BaseException | None = None


def _in_thread(work: Callable[[], Any]) -> _Ended:
    """Run it in a thread that does not keep the process: Ray Train would take Ctrl-C for itself in
    the main one."""
    ended = _Ended()

    def run() -> None:
        try:
            work()
        except BaseException as error:
            ended.error = error
        ended.set()

    threading.Thread(target=run, daemon=True).start()
    return ended
