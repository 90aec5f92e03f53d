"""Peak memory of every loss, forward and backward, as the batch doubles.

    python -m benchmarks.memory

Each cell is a process of its own: its peak resident memory less what it held before the first step,
in megabytes and in matrices of B x B float32 numbers. Memory in proportion to B^2 keeps the second
number the same; a list of all triplets would double it.
"""

import argparse
import multiprocessing
import resource
from datetime import date
from pathlib import Path

import torch
from tqdm import tqdm

from benchmarks.speed import DIM, PER_CLASS, sample, step_of
from rhs.tracking.hardware import describe_hardware

METHODS = (
    "contrastive,triplet,triplet_hard,triplet_semi_hard,lifted,lifted_exact,lifted_generalized,"
    "npair,npair_all,log_ratio,multi_similarity,margin,normalized_softmax,angular,"
    "symm_npair,rhs_npair,iaa_multi_similarity"
)
BATCHES = (1024, 2048)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--methods", default=METHODS)
    arguments.add_argument("--out", type=Path, default=Path("benchmarks/results/memory.md"))
    options = arguments.parse_args()
    lines = [
        "Command: `python -m benchmarks.memory`",
        f"Machine: {describe_hardware()}. Date: {date.today()}.",
        f"Megabytes (matrices of B x B float32); D = {DIM}, {PER_CLASS} a class.",
        "",
        "| method | " + " | ".join(f"B = {batch}" for batch in BATCHES) + " |",
        "|---|" + "---|" * len(BATCHES),
    ]
    spawn = multiprocessing.get_context("spawn")
    for name in tqdm(options.methods.split(","), disable=None):
        cells = []
        for batch in BATCHES:
            with spawn.Pool(1) as pool:
                megabytes = pool.apply(peak, (name, batch))
            cells.append(f"{megabytes:,.0f} ({megabytes * 2**20 / (4 * batch**2):.1f})")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text("\n".join(lines) + "\n")
    print(options.out.read_text())


def peak(name: str, batch: int, tile: int | None = None) -> float:
    """Megabytes that one step of a method takes at its peak."""
    step_of(name, *sample(16, "cpu"))()  # what is loaded and allocated once
    x, labels = sample(batch, "cpu")
    step = step_of(name, x, labels, tile)
    before = _peak_so_far()
    torch.manual_seed(0)
    step()
    return _peak_so_far() - before


def _peak_so_far() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
