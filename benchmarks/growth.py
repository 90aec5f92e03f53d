"""What grows with the batch and with the classes on every worker, whatever their number.

    python -m benchmarks.growth

The loss (forward and backward, one thread) against the batch, the plan of an epoch's batches
against the number of classes, the memory at the peak of a survey, and the two rates that the first
is made of: a product of float32 matrices, and a pass over memory. benchmarks/cost_check.py fits the
cost model to half of it and checks it on the other.
"""

import argparse
import json
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.cost import LOSSES
from benchmarks.speed import sample, step_of
from rhs.data.batch_sampler import BalancedBatchSampler
from rhs.methods.centers import EpochCenters
from rhs.methods.losses.normalized_softmax import NormalizedSoftmax
from rhs.tracking.hardware import describe_hardware

DIM = 512
OF_CLASS, PER_CLASS, GROUP = 5, 2, 64  # images of a class, in a batch, classes in a batch
SURVEYED = 100_000  # classes
SIDE = 1024  # of the matrices that rates are measured with; they leave the nearest caches


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--methods", default=",".join(LOSSES))
    arguments.add_argument("--batches", default="128,256,512,1024,2048")
    arguments.add_argument("--classes", default="1000,2000,4000,8000,16000")
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = arguments.parse_args()
    torch.set_num_threads(1)
    batches, classes = (
        [int(number) for number in text.split(",")] for text in (options.batches, options.classes)
    )
    seconds = losses(options.methods.split(","), batches, options.rounds)
    data = {
        "machine": describe_hardware(),
        "date": str(date.today()),
        "rounds": options.rounds,
        "dim": DIM,
        "rates": rates(options.rounds),
        "losses": seconds,
        "surveys": {kind: in_a_process(survey_peak, kind) for kind in ("epoch", "proxy")},
        "plans": {count: plan(count) for count in tqdm(classes, "plans", disable=None)},
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "scaling_growth.json").write_text(json.dumps(data, indent=1) + "\n")
    (options.out / "scaling_growth.md").write_text(table(data))
    print(table(data))


def rates(rounds: int) -> dict[str, float]:
    """Floating-point operations, and bytes read or written, a second."""
    x, y = torch.randn(2, SIDE, SIDE)
    big, other = torch.randn(2, 8 * SIDE * SIDE)
    product = _median(lambda: x @ y, rounds)
    passes = _median(lambda: torch.add(big, 1.0, out=other), rounds)
    return {"flops": 2 * SIDE**3 / product, "memory_bandwidth": 2 * 4 * big.numel() / passes}


def losses(methods: list[str], batches: list[int], rounds: int) -> dict[str, dict[int, float]]:
    """Median seconds of a forward and backward, by method and batch; methods in turns."""
    made: dict[str, dict[int, float]] = {name: {} for name in methods}
    for batch in tqdm(batches, "losses", disable=None):
        x, labels = sample(batch, "cpu")
        steps = {name: step_of(name, x, labels) for name in methods}
        seen: dict[str, list[float]] = {name: [] for name in methods}
        for _ in range(rounds + 1):
            for name, step in steps.items():
                x.grad = None
                start = time.perf_counter()
                step()
                seen[name].append(time.perf_counter() - start)
        for name, values in seen.items():
            made[name][batch] = statistics.median(values[1:])
    return made


def plan(classes: int) -> dict[str, float]:
    """Seconds to open a plan, and to lay out an epoch, of so many classes of five images."""
    labels = np.arange(OF_CLASS * classes) % classes
    start = time.perf_counter()
    made = BalancedBatchSampler(labels, GROUP, PER_CLASS, seed=0)
    opened = time.perf_counter()
    made.batch(0, 0)
    return {"open": opened - start, "epoch": time.perf_counter() - opened}


def survey_peak(kind: str) -> float:
    """Bytes that taking over the class means of a survey takes at its peak, for C D of the table;
    without the copy that two ranks or more all-reduce."""
    made = EpochCenters() if kind == "epoch" else NormalizedSoftmax(sampled=1, from_means=True)
    made.prepare(SURVEYED, DIM)
    for table in made.state_dict().values():
        table += 1  # memory is only there once it is written
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    sums = made.start_refresh()
    sums.sums += 1
    made.finish_refresh(sums)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return (peak - before) / (SURVEYED * DIM)


def in_a_process(function: Callable, *args: str) -> float:
    """Its result, from a process whose peak of memory is its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, args)


def _median(run: Callable[[], object], rounds: int) -> float:
    seen = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        run()
        seen.append(time.perf_counter() - start)
    return statistics.median(seen[1:])


def table(data: dict) -> str:
    """Milliseconds, as Markdown."""
    rates = data["rates"]
    batches = list(next(iter(data["losses"].values())))
    lines = [
        "# What every worker does in full\n",
        f"`python -m benchmarks.growth`, {data['machine']}, {data['date']}; one thread, D = "
        f"{data['dim']}, medians of {data['rounds']} rounds in turns. A product of matrices runs "
        f"at {rates['flops'] / 1e9:.0f} GFLOP/s, a pass over memory at "
        f"{rates['memory_bandwidth'] / 1e9:.1f} GB/s.\n",
        "Milliseconds of the loss, forward and backward:\n",
        "| method | " + " | ".join(f"B = {batch}" for batch in batches) + " |",
        "|---|" + "---|" * len(batches),
    ]
    for name, seen in data["losses"].items():
        lines.append(f"| `{name}` | " + " | ".join(f"{1e3 * s:.1f}" for s in seen.values()) + " |")
    peaks = ", ".join(f"{kind} {each:.1f}" for kind, each in data["surveys"].items())
    lines += [
        f"\nBytes at the peak of a survey for each number of the table, on one process: {peaks} "
        f"(measured with {SURVEYED:,} classes).",
        f"\nSeconds of the plan of batches, {OF_CLASS} images a class, {GROUP} x {PER_CLASS} in a "
        "batch:\n",
        "| classes | to open it | to lay out an epoch |",
        "|---|---|---|",
    ]
    for classes, told in data["plans"].items():
        lines.append(f"| {int(classes):,} | {told['open']:.2f} | {told['epoch']:.2f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
