"""Processes that train on made-up pictures when told to, for benchmarks/scaling.py."""

import multiprocessing
import os
from collections.abc import Iterator
from dataclasses import asdict
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel

from benchmarks.support.gloo_ranks import join
from benchmarks.support.step_timer import Stopwatch
from rhs.config.compose import compose
from rhs.data.batch_sampler import BalancedBatchSampler
from rhs.data.loader import TrainLoader
from rhs.distributed import collectives
from rhs.memory import keep_freed_memory
from rhs.methods.objective import build_objective
from rhs.models.embedder import build_embedder
from rhs.training.components import augmentation_of
from rhs.training.loop import not_finite, training_step
from rhs.training.optimization import build_optimizer

PICTURES, SIDE, OF_CLASS, PER_CLASS = 4096, 48, 8, 2
WARM_UP = 2  # steps of each turn that are not counted
# Cores a process may use (None: all), threads of torch, share of the batch.
ALONE: dict[str, tuple[set[int] | None, int, float]] = {
    "one core": ({0}, 1, 1.0),
    "half batch": ({0}, 1, 0.5),
    "one worker": (None, 1, 1.0),
    "two threads": (None, 2, 1.0),
}
TOGETHER = "two workers"
Crew = list[tuple[Any, Any]]  # of pipes and processes


class Pictures:
    """Gray noise in memory; what a loader needs of a split."""

    def __init__(self, number: int):
        random = np.random.default_rng(0)
        self.pixels = random.integers(256, size=(number, SIDE, SIDE, 1), dtype=np.uint8)
        self.labels = np.arange(number) // OF_CLASS
        self.names = [str(i) for i in range(number)]

    def __len__(self) -> int:
        return len(self.labels)

    def decode(self, i: int) -> np.ndarray:
        return self.pixels[i]


class Worker:
    """A model, a method and an optimizer as training has them."""

    def __init__(self, model: str, method: str):
        keep_freed_memory()
        torch.use_deterministic_algorithms(True)  # as training does
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        params = compose([f"model={model}", f"method={method}"])
        if "pretrained" in params.model.trunk:
            params.model.trunk["pretrained"] = False
        self.images, self.augmentation = Pictures(PICTURES), augmentation_of(params)
        self.embedder = build_embedder(asdict(params.model))
        self.objective = build_objective(params.method)
        self.objective.prepare(PICTURES // OF_CLASS, self.embedder.dim)
        self.optimizer = build_optimizer(self.embedder, self.objective, 1e-4, 1e-4, 1.0)
        self.model: Any = self.embedder
        if collectives.world_size() > 1:
            self.model = DistributedDataParallel(self.embedder, forward_sync_buffers=False)
        self.model.train()
        self.watch = Stopwatch(self.model, self.objective)

    def turn(self, batch: int, steps: int) -> list[dict]:
        """Train so many steps with batches of `batch`, of all workers together; their marks."""
        self.watch.steps.clear()
        last = 0.0
        for pixels, labels in islice(self.batches(batch), WARM_UP + steps):
            self.watch.begin(last)
            self.step(pixels, labels)
            last = self.watch.end()
        return self.watch.steps[WARM_UP:]

    def batches(self, batch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Batches of epoch after epoch, without end."""
        plan = BalancedBatchSampler(self.images.labels, batch // PER_CLASS, PER_CLASS, seed=0)
        where = collectives.rank(), collectives.world_size()
        size = self.embedder.image_size
        loader = TrainLoader(self.images, plan, self.augmentation, size, *where)
        for epoch in count():
            yield from loader.epoch(epoch)  # type: ignore[misc]

    def step(self, pixels: torch.Tensor, labels: torch.Tensor) -> None:
        """What the loop does with a batch."""
        loss, _ = training_step(self.model, self.objective, self.optimizer, pixels, labels, 0.5)
        self.watch.mark("backward done")
        assert not_finite(loss, self.model, self.objective) is None
        self.optimizer.step()


def train(model: str, method: str, batch: int, steps: int) -> list[dict]:
    """A worker's marks of some steps."""
    worker = Worker(model, method)
    try:
        return worker.turn(batch, steps)
    finally:
        worker.watch.close()


def start(model: str, method: str, folder: Path) -> dict[str, Crew]:
    """A process for each kind of ALONE, and two for TOGETHER."""
    spawn = multiprocessing.get_context("spawn")
    jobs: list[tuple] = [(name, 0, 1, *kind) for name, kind in ALONE.items()]
    jobs += [(TOGETHER, rank, 2, None, 1, 1.0) for rank in range(2)]
    crews: dict[str, Crew] = {}
    for name, *job in jobs:
        here, there = spawn.Pipe()
        process = spawn.Process(target=_serve, args=(there, model, method, folder, *job))
        process.start()
        crews.setdefault(name, []).append((here, process))
    return crews


def stop(crews: dict[str, Crew]) -> None:
    """End all processes."""
    members = [member for crew in crews.values() for member in crew]
    for pipe, _ in members:
        pipe.send(None)
    for _, process in members:
        process.join()


def _serve(
    pipe: Any,
    model: str,
    method: str,
    folder: Path,
    rank: int,
    world: int,
    cores: set[int] | None,
    threads: int,
    share: float,
) -> None:
    """One process: takes (batch, steps) and answers with the steps' marks, until None."""
    if cores is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)  # before the first thread is started
    if world > 1:
        join(rank, world, str(folder / "store"))
    torch.set_num_threads(threads)
    worker = Worker(model, method)
    while (job := pipe.recv()) is not None:
        batch, steps = job
        pipe.send(worker.turn(int(batch * share), steps))
