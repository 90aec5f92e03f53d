"""Time of one step's class centers or signatures against the number of classes in the data set.

    python -m benchmarks.classes

Each step takes a batch of 128 embeddings of 64 classes and updates what is kept per class: the
centers of the batch, the moving averages, or learned signatures (forward, backward and optimizer).
If the cost grew with all classes, a million would take ten thousand times as long as a hundred.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import torch
from tqdm import tqdm

from rhs.methods.centers import BatchCenters, EMACenters
from rhs.methods.losses.normalized_softmax import NormalizedSoftmax
from rhs.tracking.hardware import describe_hardware
from rhs.training.optimization import build_optimizer

DIM, BATCH, PER_CLASS = 128, 128, 2
Step = Callable[[torch.Tensor, torch.Tensor], object]
SAMPLED = 1024


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--powers", default="2,3,4,5,6", help="of ten: numbers of classes")
    arguments.add_argument("--rounds", type=int, default=21)
    arguments.add_argument("--out", type=Path, default=Path("benchmarks/results/classes.md"))
    options = arguments.parse_args()
    counts = [10 ** int(power) for power in options.powers.split(",")]
    rows = {count: measure(count, options.rounds) for count in tqdm(counts, disable=None)}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(table(rows, options.rounds))
    print(options.out.read_text())


def measure(classes: int, rounds: int) -> dict[str, float]:
    """Median milliseconds of a step, by what is kept per class."""
    centers = {"batch": BatchCenters(), "EMA": EMACenters(0.5)}
    for made in centers.values():
        made.prepare(classes, DIM)
    kinds: dict[str, Step] = dict(centers)
    kinds[f"signatures, {SAMPLED:,} sampled"] = _signature_step(classes, SAMPLED)
    times = _times(kinds, classes, rounds)
    # Alone and fewer: it writes gigabytes, and would push the others' memory out of all caches.
    dense = {"signatures, all (dense)": _signature_step(classes, None)}
    return times | _times(dense, classes, rounds if classes < 10**5 else 2)


def _times(kinds: dict[str, Step], classes: int, rounds: int) -> dict[str, float]:
    seen: dict[str, list[float]] = {name: [] for name in kinds}
    for turn in range(rounds + 1):
        torch.manual_seed(turn)
        labels = torch.randperm(classes)[: BATCH // PER_CLASS].repeat_interleave(PER_CLASS)
        x = torch.nn.functional.normalize(torch.randn(len(labels), DIM)).requires_grad_()
        for name, step in kinds.items():
            start = time.perf_counter()
            step(x, labels)
            seen[name].append(1000 * (time.perf_counter() - start))
    return {name: statistics.median(values[1:]) for name, values in seen.items()}


def _signature_step(classes: int, sampled: int | None):
    softmax = NormalizedSoftmax(sampled=sampled)
    softmax.prepare(classes, DIM)
    optimizer = build_optimizer(torch.nn.Linear(1, 1), softmax, 0.001, 0.0, 1.0)  # type: ignore

    def step(x: torch.Tensor, labels: torch.Tensor) -> None:
        optimizer.zero_grad()
        softmax(x, labels).backward()
        optimizer.step()

    return step


def table(rows: dict[int, dict[str, float]], rounds: int) -> str:
    """Milliseconds a step, as Markdown."""
    kinds = list(next(iter(rows.values())))
    lines = [
        "Command: `python -m benchmarks.classes`",
        f"Machine: {describe_hardware()}. Date: {date.today()}. Median of {rounds} steps.",
        f"Milliseconds a step; D = {DIM}, a batch of {BATCH} embeddings of {BATCH // PER_CLASS} "
        "classes (fewer where there are fewer).",
        "",
        "| classes | " + " | ".join(kinds) + " |",
        "|---|" + "---|" * len(kinds),
    ]
    for count, times in rows.items():
        lines.append(f"| {count:,} | " + " | ".join(f"{times[kind]:.2f}" for kind in kinds) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
