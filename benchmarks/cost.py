"""What the cost model says of large clusters and many classes.

    python -m benchmarks.cost

The formulas are in benchmarks/support/cost_model.py and checked against measurements of this
machine by benchmarks/cost_check.py; the constants of GPUs are assumptions, written down here.
docs/scaling.md has the words.
"""

import argparse
from dataclasses import replace
from datetime import date
from pathlib import Path

from benchmarks.support.cost_model import (
    Link,
    Loss,
    Machine,
    all_reduce_seconds,
    checkpoint_bytes,
    exposed_images,
    loss_seconds,
    most_classes,
    step,
    survey_bytes,
    table_bytes,
)

# 6 operations for each entry of a product and its two gradients. Pairs: B / 2 by B / 2. `passes`
# and `rows` as fitted by benchmarks/cost_check.py on a processor, where arithmetic counts as passes
# too: at most as many on a GPU.
LOSSES = {
    "npair": Loss(1.5, 14, 51, 0.5),
    "rhs_npair": Loss(1.5, 26, 102, 0.5, "ema"),
    "rhs_npair_proxy": Loss(1.5, 63, 172, 0.5, "proxy"),
    "symm_npair": Loss(9.0, 83, 53, 0.5),
    "triplet": Loss(6.0, 226, 0),
}
# Assumptions. Data sheets: H100 SXM 80 GB, 3.35 TB/s, 67 TFLOP/s float32, NVLink 900 GB/s both
# ways together, one 400 Gb/s port a GPU. Of all these 70 % is taken as reached. A ring enters and
# leaves a node once, so that it has all ports of a node. An image: ResNet-50 at 224 pixels,
# bfloat16, 2,500 images a second. A checkpoint: 5 GB/s to the host, as its memory is not pinned and
# copied once more; one thread that copies, serializes, hashes and writes it: 0.25 GB/s.
REACHED = 0.7
NVLINK = Link(2e-6, REACHED * 450e9)  # within a node of eight
NETWORK = Link(3e-6, REACHED * 8 * 50e9)  # of eight messages of a ring one leaves the node
SLOW_NETWORK = Link(6e-6, REACHED * 12.5e9)  # 100 Gb/s a node
H100 = Machine(
    link=NETWORK,
    image=1 / 2500,
    loss=3e-3,
    flops=REACHED * 67e12,
    memory_bandwidth=REACHED * 3.35e12,
    memory=80e9,
    parameter=40 / (REACHED * 3.35e12),  # AdamW reads and writes ten float32s
    overlap=0.8,
    copy=5e9,
    write=0.25e9,
)
SLOW = replace(H100, link=SLOW_NETWORK)
RESNET50 = 25_600_000


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--classes", default="1000000,10000000")
    arguments.add_argument("--dim", type=int, default=512)
    arguments.add_argument("--out", type=Path, default=Path("benchmarks/results/scaling_cost.md"))
    options = arguments.parse_args()
    text = "\n".join(
        [
            f"# Cost model\n\n`python -m benchmarks.cost`, {date.today()}; formulas with the "
            "assumed constants of benchmarks/cost.py, nothing measured.\n",
            steps_table(options.dim),
            tables_table([int(count) for count in options.classes.split(",")], options.dim),
            batches_table(options.dim),
        ]
    )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(text)
    print(text)


def steps_table(dim: int) -> str:
    """Step times of 8, 64 and 512 GPUs, with 128 images a GPU and with one global batch."""
    lines = [
        "## A step: milliseconds\n",
        "Efficiency: the model's share of the step.\n",
        "| GPUs | B | method | model | loss | gather | gradients | optimizer | images/s "
        "| efficiency | on 100 Gb/s a node |",
        "|" + "---|" * 11,
    ]
    growing = [(w, 128 * w, name) for w in (8, 64, 512) for name in LOSSES]
    constant = [(w, 2048, name) for name in ("npair", "rhs_npair") for w in (8, 64, 512)]
    for workers, batch, name in growing + constant:
        machine, loss = replace(H100, link=NVLINK) if workers == 8 else H100, LOSSES[name]
        parts = step(machine, loss, workers, batch, dim, RESNET50)
        others = step(SLOW, loss, workers, batch, dim, RESNET50) if workers > 8 else parts
        told = f"{batch / sum(parts.values()):,.0f}", _share(parts), _share(others)
        cells = [f"{1e3 * seconds:.2f}" for seconds in parts.values()]
        row = [str(workers), f"{batch:,}", f"`{name}`", *cells, *told]
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join([*lines, "", _exposed()]) + "\n"


def _exposed() -> str:
    """How few images of a GPU leave the all-reduce of the gradients in sight."""
    told = []
    for machine, name in ((H100, "400 Gb/s a GPU"), (SLOW, "100 Gb/s a node")):
        whole = 1e3 * all_reduce_seconds(4 * RESNET50, 64, machine.link)
        few = exposed_images(machine, 64, RESNET50)
        told.append(f"{whole:.1f} ms with {name}, which the backward of {few} images hides")
    return "The all-reduce of the gradients on 64 GPUs takes " + "; ".join(told) + "."


def _share(parts: dict[str, float]) -> str:
    return f"{parts['model'] / sum(parts.values()):.0%}"


def tables_table(counts: list[int], dim: int) -> str:
    """Memory, checkpoints and surveys with that many classes, and how many a GPU has room for."""
    lines = [
        f"## Many classes, D = {dim}: gigabytes and seconds\n",
        "Survey: the memory it takes at its peak, beside the table, and the all-reduce of class "
        "sums on 64 GPUs. A checkpoint holds training up while it is copied, and is written behind "
        "its back.\n",
        "| classes | kept per class | on every GPU | survey: memory beside the table | seconds | "
        "checkpoint | copy: seconds | share at one a minute | write: seconds |",
        "|" + "---|" * 9,
        *(
            _table(kind, count, dim)
            for count in counts
            for kind in ("batch", "ema", "epoch", "proxy")
        ),
        "\nClasses whose table, with what a survey holds beside it, fills 80 GB:\n",
        "| kept per class | classes |",
        "|---|---|",
        *(
            f"| {kind} | {most_classes(kind, dim, H100.memory):,} |"
            for kind in ("ema", "epoch", "proxy")
        ),
    ]
    return "\n".join(lines) + "\n"


def _table(kind: str, classes: int, dim: int) -> str:
    size = checkpoint_bytes(RESNET50, kind, classes, dim)
    copy = size / H100.copy
    survey = ["", ""]
    if kind in ("epoch", "proxy"):
        seconds = all_reduce_seconds(8 * classes * (dim + 1), 64, H100.link)
        survey = [f"{survey_bytes(kind, classes, dim) / 1e9:.1f}", f"{seconds:.2f}"]
    row = [
        f"{classes:,}",
        kind,
        f"{table_bytes(kind, classes, dim) / 1e9:.1f}",
        *survey,
        f"{size / 1e9:.1f}",
        f"{copy:.2f}",
        f"{copy / 60:.2%}",
        f"{size / H100.write:.0f}",
    ]
    return "| " + " | ".join(row) + " |"


def batches_table(dim: int) -> str:
    """How large a batch may grow before the loss is in the way."""
    lines = [
        "## How far the loss goes\n",
        "128 images a GPU; the batch whose loss takes as long as the model's forward and backward "
        "on a rank's 128 images, if ranks share its rows, and if each computed all of them.\n",
        "| method | B, rows shared | B, all rows on every rank |",
        "|---|---|---|",
        *(
            f"| `{name}` | {_equal(loss, dim, True):,} | {_equal(loss, dim, False):,} |"
            for name, loss in LOSSES.items()
        ),
    ]
    return "\n".join(lines) + "\n"


def _equal(loss: Loss, dim: int, shared: bool) -> int:
    low, high = 1, 1 << 24
    while high - low > 1:  # the loss grows with the batch
        middle = (low + high) // 2
        workers = max(1, middle // 128) if shared else 1
        longer = loss_seconds(loss, middle, dim, H100, workers) > 128 * H100.image
        low, high = (low, middle) if longer else (middle, high)
    return low


if __name__ == "__main__":
    main()
