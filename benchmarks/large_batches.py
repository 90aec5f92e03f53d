"""The loss of large batches: rows shared between workers, in tiles, against all rows at once.

    python -m benchmarks.large_batches
    python -m benchmarks.large_batches --batches= --memory-batch=16384 --methods=npair
    python -m benchmarks.large_batches --one-batch=65536

Times: two gloo processes of one thread, the gather and the loss forward and backward, both ways in
turn in each round, medians of the slower rank. Memory: one process of its own for each cell, its
peak less what it held before the step. Embeddings of 512 dimensions, float32, four a class.
"""

import argparse
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from tqdm import tqdm

from benchmarks.memory import METHODS, peak
from benchmarks.speed import DIM, PER_CLASS, sample
from benchmarks.support import gloo_ranks
from rhs.config.compose import compose
from rhs.distributed import collectives
from rhs.methods.objective import build_objective
from rhs.methods.tiles import WHOLE
from rhs.tracking.hardware import describe_hardware

TIMED = "npair,rhs_npair,symm_npair,multi_similarity,triplet"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--methods", type=_names, default=None, help="of both tables")
    arguments.add_argument("--batches", type=_numbers, default="128,512,1024,4096")
    arguments.add_argument("--memory-batch", type=int, default=16384, help="0: no memory")
    arguments.add_argument("--one-batch", type=int, default=0, help="a batch to run once, tiled")
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument("--out", type=Path, default=Path("benchmarks/results/large_batches.md"))
    options = arguments.parse_args()
    lines = [
        f"Command: `python -m benchmarks.large_batches{' '.join(['', *sys.argv[1:]])}`",
        f"Machine: {describe_hardware()}. Date: {date.today()}. D = {DIM}, float32, {PER_CLASS} a "
        f"class, medians of {options.rounds} rounds.",
    ]
    if options.batches:
        lines += times_table(options.methods or _names(TIMED), options.batches, options.rounds)
    if options.memory_batch:
        lines += memory_table(options.methods or _names(METHODS), options.memory_batch)
    if options.one_batch:
        lines += once_table(options.methods or _names(TIMED), options.one_batch)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text("\n".join(lines) + "\n")
    print(options.out.read_text())


def times_table(methods: list[str], batches: list[int], rounds: int) -> list[str]:
    """Milliseconds of rows shared and in tiles, and in times of all rows on every rank."""
    lines = [
        "",
        "Two processes: milliseconds of gather and loss (times those of all rows on every rank).",
        "",
        "| method | " + " | ".join(f"B = {batch:,}" for batch in batches) + " |",
        "|---|" + "---|" * len(batches),
    ]
    for name in tqdm(methods, "times", disable=None):
        cells = []
        for batch in batches:
            shared, whole = gloo_ranks.run(seconds, 2, name, batch, rounds)[0]
            cells.append(f"{1e3 * shared:,.1f} ({shared / whole:.2f} x)")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def seconds(name: str, batch: int, rounds: int) -> tuple[float, float]:
    """Median seconds of a step's gather and loss: as it is, and all rows on every rank."""
    x, labels = sample(batch, "cpu")
    share = batch // collectives.world_size()
    own = x.detach()[collectives.rank() * share :][:share].requires_grad_()
    steps = [_step(name, own, labels, whole) for whole in (False, True)]
    seen = torch.zeros(rounds, 2)
    for turn in range(-1, rounds):
        for place, step in enumerate(steps):
            own.grad = None
            dist.barrier()
            start = time.perf_counter()
            step()
            if turn >= 0:  # the first warms up
                seen[turn, place] = time.perf_counter() - start
    dist.all_reduce(seen, dist.ReduceOp.MAX)
    shared, whole = (statistics.median(column) for column in seen.T.tolist())
    return shared, whole


def _step(name: str, own: torch.Tensor, labels: torch.Tensor, whole: bool) -> Callable[[], Any]:
    objective = build_objective(compose([f"method={name}"]).method)
    classes = len(labels) // PER_CLASS
    objective.prepare(classes, DIM, values_CL=torch.rand(classes, 1))
    if whole:
        objective._shares = lambda rows: WHOLE  # type: ignore[method-assign]
    return lambda: objective(own, labels, 0.5, alike=True)[0].backward()


def memory_table(methods: list[str], batch: int) -> list[str]:
    """Peak MiB with tiles, and with one matrix of the whole batch."""
    lines = [
        "",
        f"One process, B = {batch:,}: MiB at the peak of a step.",
        "",
        "| method | in tiles | all rows at once |",
        "|---|---|---|",
    ]
    for name in tqdm(methods, "memory", disable=None):
        cells = [f"{_apart(peak, name, batch, tile):,.0f}" for tile in (None, batch)]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def once_table(methods: list[str], batch: int) -> list[str]:
    """Seconds and MiB of one step."""
    lines = [
        "",
        f"One process, B = {batch:,}, one step in tiles.",
        "",
        "| method | seconds | MiB at the peak |",
        "|---|---|---|",
    ]
    for name in tqdm(methods, f"batch of {batch}", disable=None):
        start = time.perf_counter()
        most = _apart(peak, name, batch, None)
        lines.append(f"| {name} | {time.perf_counter() - start:,.0f} | {most:,.0f} |")
    return lines


def _apart(function: Callable, *arguments: Any) -> Any:
    """The function's result, from a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def _names(text: str) -> list[str]:
    return text.split(",")


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",") if number]


if __name__ == "__main__":
    main()
