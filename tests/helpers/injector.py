"""Ends a rank of a training run, in one of several ways, at a moment of choice."""

import os
import signal
import unittest.mock
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from rhs.distributed import collectives
from rhs.storage.store import FolderStore
from rhs.training import loop
from rhs.training.checkpointer import Checkpointer


class Ended(Exception):
    """Stands for whatever ends a process, where that process is to live on."""


@dataclass(frozen=True)
class Injury:
    """What happens, where and when.

    Args:
        moment: "step" (before it), "edge" (the epoch's checkpoint is due), "tensors" (half of a
            checkpoint's tensors are written), "state" (all of its tensors are, and nothing else).
        number: of the step, from 0, or of the checkpoint or epoch, from 1, counted over this try.
        how: "raise", "kill" (SIGKILL) or "term" (SIGTERM).
        ranks: that it happens to; () is all.
    """

    moment: str
    number: int
    how: str = "raise"
    ranks: tuple[int, ...] = ()

    def strike(self) -> None:
        if self.how == "raise":
            raise Ended
        os.kill(os.getpid(), signal.SIGKILL if self.how == "kill" else signal.SIGTERM)


@contextmanager
def inflicted(injury: Injury | None) -> Iterator[None]:
    """The injury waits for its moment while the block runs."""
    if injury is None:
        yield
        return
    target, name, watched = {
        "step": (loop, "training_step", _before_step),
        "edge": (Checkpointer, "save", _at_edge),
        "tensors": (FolderStore, "write", _half_written),
        "state": (FolderStore, "write", _before_state),
    }[injury.moment]
    with ExitStack() as stack:
        # A checkpoint is written by the first rank alone; others have no part in it.
        watch = watched(injury, getattr(target, name))
        stack.enter_context(unittest.mock.patch.object(target, name, watch))
        yield


def _concerned(injury: Injury) -> bool:
    return not injury.ranks or collectives.rank() in injury.ranks


def _before_step(injury: Injury, real: Callable) -> Callable:
    count = [0]

    def step(*args, **more):
        if count[0] == injury.number and _concerned(injury):
            injury.strike()
        count[0] += 1
        return real(*args, **more)

    return step


def _at_edge(injury: Injury, real: Callable) -> Callable:
    def save(self, progress):
        if progress.step == 0 and progress.epochs_done == injury.number and _concerned(injury):
            injury.strike()
        return real(self, progress)

    return save


def _half_written(injury: Injury, real: Callable) -> Callable:
    count = [0]

    def write(self, name, data):
        count[0] += name.endswith(".safetensors")
        if name.endswith(".safetensors") and count[0] == injury.number and _concerned(injury):
            (self.path / f".{name}.0a1b2c3d.tmp").write_bytes(data[: len(data) // 2])
            injury.strike()
        return real(self, name, data)

    return write


def _before_state(injury: Injury, real: Callable) -> Callable:
    count = [0]

    def write(self, name, data):
        count[0] += name.endswith(".json")
        if name.endswith(".json") and count[0] == injury.number and _concerned(injury):
            injury.strike()
        return real(self, name, data)

    return write
