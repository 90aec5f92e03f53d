"""What a step sends between workers: embeddings against gradients.

    python -m benchmarks.traffic

Counted: every collective of one real step (forward, loss, backward, gradient buckets of
DistributedDataParallel) on two gloo processes, by wrapping torch.distributed and DDP's own hook.
Timed: the same collectives again, alone, all in turn in one run, medians. Checked: bytes that cross
the loopback interface, on two and four processes, against the formulas of
benchmarks/support/cost_model.py.
"""

import argparse
import json
from dataclasses import asdict
from datetime import date
from pathlib import Path

import torch
from torch.nn.parallel import DistributedDataParallel

from benchmarks.support import gloo_ranks
from benchmarks.support.collective_trace import Call, replay, traced_collectives, wire
from rhs.config.compose import compose
from rhs.distributed import collectives
from rhs.methods.objective import build_objective
from rhs.models.embedder import build_embedder
from rhs.tracking.hardware import describe_hardware

METHODS = "npair,symm_npair,triplet,rhs_npair,rhs_npair_batch,rhs_npair_epoch,rhs_npair_proxy"
MODELS = ("convnet", "efficientnet_lite0")
RESNET50 = 25_600_000  # parameters, as published
CLASSES = 1000  # of the made-up data; a step sends none but those of its batch
GROUPS = ("gather", "gradient")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument(
        "--methods", type=lambda text: text.split(","), default=METHODS.split(",")
    )
    arguments.add_argument("--batches", type=_numbers, default="128,512")
    arguments.add_argument("--dims", type=_numbers, default="128,512")
    arguments.add_argument("--rounds", type=int, default=31)
    arguments.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = arguments.parse_args()
    grid = [
        (model, batch, dim) for model in MODELS for batch in options.batches for dim in options.dims
    ]
    rows, parts = gloo_ranks.run(measure, 2, grid, options.methods, options.rounds)[0]
    wires = [gloo_ranks.run(wire, size, 20)[0] for size in (2, 4)]
    data = {
        "machine": describe_hardware(),
        "date": str(date.today()),
        "rounds": options.rounds,
        "parts": parts,
        "rows": rows,
        "wire": wires,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "scaling_traffic.json").write_text(json.dumps(data, indent=1) + "\n")
    (options.out / "scaling_traffic.md").write_text(table(data))
    print(table(data))


def measure(
    grid: list[tuple[str, int, int]], methods: list[str], rounds: int
) -> tuple[list[dict], list[dict]]:
    """One row for each model, batch size, dimension and method, which names its collectives by
    their places in the second list: each list of collectives is there once, with its bytes and
    seconds. Runs on every rank."""
    rows: list[dict] = []
    parts: dict[str, dict] = {}
    for model, batch, dim in grid:
        for method in methods:
            calls = record(model, method, batch, dim)
            rows.append({"model": model, "method": method, "batch": batch, "dim": dim})
            for group in GROUPS:
                part = [c for c in calls if c.group == group]
                made = {
                    "calls": [asdict(c) for c in part],
                    "bytes": sum(c.bytes for c in part),
                    "sent": sum(c.sent(collectives.world_size()) for c in part),
                }
                key = json.dumps(made["calls"])
                parts.setdefault(key, made)
                rows[-1][group] = list(parts).index(key)
    seconds = replay(sorted(parts), rounds)
    return rows, [part | {"seconds": seconds[key]} for key, part in parts.items()]


def record(model: str, method: str, batch: int, dim: int, width: int = 32) -> list[Call]:
    """The collectives of one step of this rank, the second: DDP regroups its buckets after one.

    Args:
        width: of the images in pixels; no collective depends on it.
    """
    params = compose([f"model={model}", f"method={method}", f"model.dim={dim}"])
    if "pretrained" in params.model.trunk:
        params.model.trunk["pretrained"] = False
    embedder = build_embedder(asdict(params.model))
    objective = build_objective(params.method)
    objective.prepare(CLASSES, dim)
    network = DistributedDataParallel(embedder, forward_sync_buffers=False)
    labels_B = torch.arange(batch) // 2
    share = batch // collectives.world_size()
    with traced_collectives(network) as calls:
        for _ in range(2):
            calls.clear()
            images = torch.randint(256, (2, 3, width, width), dtype=torch.uint8)
            x_bD = network(images).repeat(-(-share // 2), 1)[:share]  # a few images will do
            objective(x_bD, labels_B, 0.5, alike=True)[0].backward()
        return list(calls)


def table(data: dict) -> str:
    """Bytes and times, as Markdown."""
    lines = [
        "# Communication of a step\n",
        f"`python -m benchmarks.traffic`, {data['machine']}, {data['date']}; two gloo processes of "
        f"one thread on the loopback interface, float32, medians of {data['rounds']} rounds in "
        "turns. KiB: what a rank hands in, in all of a step's collectives. In brackets: share of "
        "the gradients'.\n",
        "| model (parameters) | B | D | method | gather: KiB | ms | gradients: KiB | ms |",
        "|---|---|---|---|---|---|---|---|",
        *_rows(data),
        _resnet50(joined(data)),
        "Bytes that a rank sends over the wire, seen on the interface and by the formulas of a "
        "ring:\n",
        "| processes | all-reduce of 4 MiB: seen | formula | all-gather of 2 MiB each: seen | "
        "formula |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {w['world_size']} | "
        + " | ".join(
            f"{w[kind][what]:,.0f}"
            for kind in ("all_reduce", "all_gather")
            for what in ("seen", "formula")
        )
        + " |"
        for w in data["wire"]
    ]
    return "\n".join(lines) + "\n"


def joined(data: dict) -> list[dict]:
    """Its rows, with what they send in place of the numbers for it."""
    parts = data["parts"]
    return [row | {group: parts[row[group]] for group in GROUPS} for row in data["rows"]]


def _rows(data: dict) -> list[str]:
    """A line for each case; methods that send the same share one."""
    same: dict[tuple, list[dict]] = {}
    for row, whole in zip(data["rows"], joined(data), strict=True):
        sent = tuple(row[group] for group in GROUPS)
        same.setdefault((row["model"], row["batch"], row["dim"], sent), []).append(whole)
    return [_row(alike) for alike in same.values()]


def _row(alike: list[dict]) -> str:
    row, names = alike[0], ", ".join(f"`{row['method']}`" for row in alike)
    whole = row["gradient"]
    cells = [f"{row['model']} ({whole['bytes'] // 4:,})", row["batch"], row["dim"], names]
    part = row["gather"]
    share, times = (part[what] / whole[what] for what in ("bytes", "seconds"))
    cells += [
        f"{part['bytes'] / 1024:,.0f} ({share:.1%})",
        f"{1e3 * part['seconds']:.2f} ({times:.0%})",
    ]
    cells += [f"{whole['bytes'] / 1024:,.0f}", f"{1e3 * whole['seconds']:.2f}"]
    return "| " + " | ".join(map(str, cells)) + " |"


def _resnet50(rows: list[dict]) -> str:
    """The largest case beside a model that was not run."""
    largest = max(rows, key=lambda row: row["batch"] * row["dim"])
    return (
        f"\nResNet-50, {RESNET50:,} parameters, by formula: {4 * RESNET50 / 1024:,.0f} KiB of "
        f"gradients; the gather at B = {largest['batch']}, D = {largest['dim']} is "
        f"{largest['gather']['bytes'] / (4 * RESNET50):.1%} of that.\n"
    )


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


if __name__ == "__main__":
    main()
