"""How far a run has come, and what it measured on the way."""

import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field

import torch

POINTS = 200  # steps of an epoch whose numbers are recorded, at most
AT_ONCE = 100  # steps whose numbers are read from the device together


@dataclass
class Progress:
    """How far a run has come. With the tensors of `checkpoint.pack` it is all of its state.

    There is no generator state in it: random numbers are seeded anew at every step.

    Attributes:
        epochs_done: whole ones.
        step: steps done of the epoch that is under way.
        sums: of the numbers of these steps, {name: [sum, how many]}.
        history: a row for each epoch done.
    """

    epochs_done: int = 0
    step: int = 0
    sums: dict[str, list[float]] = field(default_factory=dict)
    history: list[dict] = field(default_factory=list)

    def total(self, steps: int) -> int:
        """Steps done since the run began, of which an epoch has so many."""
        return self.epochs_done * steps + self.step

    def state(self) -> dict:
        """A copy, fit for JSON; `Progress(**state)` is the inverse."""
        return deepcopy(vars(self))

    def add(self, row: dict[str, float]) -> None:
        """Count in the numbers of a step. One after the other: so the sums are the same to the
        last digit, wherever an epoch was interrupted."""
        for name, value in row.items():
            total = self.sums.setdefault(name, [0.0, 0])
            total[0] += value
            total[1] += 1

    def end_epoch(self, steps: int, lr: float) -> None:
        """Close the epoch: its row holds the mean of each number over the steps that have it."""
        means = {name: total / count for name, (total, count) in self.sums.items()}
        self.epochs_done, self.step, self.sums = self.epochs_done + 1, 0, {}
        row = {"epoch": self.epochs_done, "step": self.epochs_done * steps, "lr": lr}
        self.history.append(row | means)


class StepMetrics:
    """The numbers of an epoch's steps, and where its time went.

    Args:
        progress: takes the numbers.
        steps: of an epoch.
        record: takes them too, of evenly spaced steps.
    """

    def __init__(
        self,
        progress: Progress,
        steps: int,
        record: Callable[[list[dict[str, float]]], None] | None = None,
    ):
        self.progress, self.steps, self.record = progress, steps, record
        self.start = self.last = self.said = time.perf_counter()
        self.waited, self.here = 0.0, 0
        self.waiting: list[dict[str, torch.Tensor]] = []  # on the device still

    def batch_is_here(self) -> None:
        self.waited += time.perf_counter() - self.last

    def step_is_done(self, loss: torch.Tensor, diagnostics: dict[str, torch.Tensor]) -> None:
        self.progress.step += 1
        self.here += 1
        self.waiting.append({"loss": loss, **diagnostics})
        if len(self.waiting) == AT_ONCE:
            self.settle()
        self.last = time.perf_counter()

    def is_due(self) -> bool:
        """True at most once in 30 seconds."""
        if due := self.last - self.said > 30:
            self.said = self.last
        return due

    def settle(self) -> None:
        """Read the numbers of the latest steps from the device, count them in and record them."""
        rows = [{name: float(value) for name, value in row.items()} for row in self.waiting]
        self.waiting = []
        for row in rows:
            self.progress.add(row)
        first = self.progress.step - len(rows)  # in the epoch, from 0
        every = -(-self.steps // POINTS)
        before = self.progress.epochs_done * self.steps + 1
        chosen = [
            {"step": before + number, **row}
            for number, row in enumerate(rows, first)
            if number % every == 0
        ]
        if self.record is not None and chosen:
            self.record(chosen)

    def times(self, batch_size: int) -> dict[str, float]:
        """Seconds, images per second of all workers, share of the time spent waiting for input.

        Kept apart from the means, which are a function of parameters and data: these never are. Of
        an epoch that was interrupted they tell of the part since.
        """
        seconds = time.perf_counter() - self.start
        return {
            "seconds": round(seconds, 2),
            "images_per_second": round(self.here * batch_size / seconds, 1),
            "input_wait": round(self.waited / seconds, 4),
        }
