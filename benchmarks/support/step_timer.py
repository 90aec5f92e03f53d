"""Where the time of a training step goes, without changing the step.

Every part of the model, the loss and the gradients' all-reduce is marked by a hook, and every
collective with the moment at which a rank enters and leaves it. Processes of one machine share a
clock, so that the time a rank waits for a slower one is the difference of their entries.
"""

import time
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from rhs.distributed import collectives

PARTS = (
    "input",
    "model forward",
    "loss",
    "gather",
    "waiting",
    "model backward",
    "gradients",
    "optimizer",
    "rest",
)
ALL_REDUCE, ALL_GATHER = dist.all_reduce, collectives.all_gather_into


class Stopwatch:
    """Marks of one step after the other.

    Args:
        model: or DistributedDataParallel around it, once per process: its hook stays.
        objective: the loss.
    """

    def __init__(self, model: nn.Module, objective: nn.Module):
        self.steps: list[dict[str, Any]] = []
        self.marks: dict[str, Any] = {}
        model.register_forward_pre_hook(lambda *_: self.mark("forward"))
        model.register_forward_hook(lambda *_: self.mark("forward done"))
        objective.register_forward_pre_hook(self._loss_begins)
        objective.register_forward_hook(lambda *_: self.mark("loss done"))
        if isinstance(model, DistributedDataParallel):
            model.register_comm_hook(None, self._bucket)
            dist.all_reduce = self._timed(ALL_REDUCE)
            collectives.all_gather_into = self._timed(ALL_GATHER)

    def close(self) -> None:
        """Time no more collectives."""
        dist.all_reduce, collectives.all_gather_into = ALL_REDUCE, ALL_GATHER

    def mark(self, name: str) -> None:
        self.marks[name] = time.perf_counter()

    def begin(self, last: float) -> None:
        """A batch is here; the step before ended at `last`."""
        self.marks = {"last": last, "calls": []}
        self.mark("here")

    def end(self) -> float:
        """The step is done; returns the time."""
        self.mark("end")
        self.steps.append(self.marks)
        return self.marks["end"]

    def _loss_begins(self, _, arguments: tuple) -> None:
        self.mark("loss")
        # When the gradient reaches the embeddings, the model's backward begins.
        arguments[0].register_hook(lambda gradient: self.mark("backward"))

    def _bucket(self, _, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
        self.mark("last bucket")
        work = ALL_REDUCE(bucket.buffer().div_(dist.get_world_size()), async_op=True)
        return work.get_future().then(lambda done: done.value()[0])

    def _timed(self, function: Callable) -> Callable:
        def timed(*args, **kwargs):
            start = time.perf_counter()
            answer = function(*args, **kwargs)
            self.marks["calls"].append((start, time.perf_counter()))
            return answer

        return timed


def parts(ranks: list[list[dict[str, Any]]]) -> dict[str, float]:
    """Mean seconds of each part of a step over all steps and ranks; they add up to a step.

    Args:
        ranks: the steps of each rank's stopwatch.
    """
    total = dict.fromkeys(PARTS, 0.0)
    for marks in zip(*ranks, strict=True):
        for mine in marks:
            for name, seconds in _parts_of(mine, marks).items():
                total[name] += seconds / (len(ranks) * len(ranks[0]))
    return total


def _parts_of(mine: dict[str, Any], ranks: tuple[dict[str, Any], ...]) -> dict[str, float]:
    calls = list(zip(mine["calls"], *(other["calls"] for other in ranks), strict=True))
    waited = sum(max(at for at, _ in others) - start for (start, _), *others in calls)
    inside = sum(end - start for start, end in mine["calls"])
    sent = mine.get("last bucket", mine["backward done"])
    late = max(other.get("last bucket", sent) for other in ranks) - sent
    # What other buckets took is hidden behind the backward pass.
    late = min(late, mine["backward done"] - sent)
    told = {
        "input": mine["here"] - mine["last"],
        "model forward": mine["forward done"] - mine["forward"],
        "loss": mine["backward"] - mine["loss"] - inside,
        "gather": inside - waited,
        "waiting": waited + late,
        "model backward": sent - mine["backward"],
        "gradients": mine["backward done"] - sent - late,
        "optimizer": mine["end"] - mine["backward done"],
    }
    return told | {"rest": mine["end"] - mine["last"] - sum(told.values())}
