"""Recall@1 on unseen classes for several methods under one budget.

    python -m benchmarks.methods            glyphs: N-pair, Symm and RHS, three seeds
    python -m benchmarks.methods train.epochs=2 --seeds=0 --methods=npair

Every cell trains the same model on the same batches for the same number of steps, in this process,
and scores its last epoch; nothing is chosen by its score. Finished cells are kept under runs/, so
an interrupted table continues.
"""

import argparse
import json
import statistics
from dataclasses import asdict
from datetime import date
from pathlib import Path

import numpy as np
import torch

from rhs.config.compose import compose
from rhs.data.shards import ShardedImages, load_manifest
from rhs.metrics.retrieval import score
from rhs.models.embedder import build_embedder
from rhs.run import identify
from rhs.storage.store import open_store
from rhs.tracking.hardware import describe_hardware
from rhs.training.hooks import RunHooks
from rhs.training.validation import embed
from rhs.training.worker import train_rank

CPU = torch.device("cpu")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("overrides", nargs="*", help="Hydra overrides for every cell")
    arguments.add_argument("--methods", type=_names, default="npair,symm_npair,rhs_npair")
    arguments.add_argument("--seeds", type=_numbers, default="0,1,2")
    arguments.add_argument("--out", type=Path, default=Path("benchmarks/results/methods.md"))
    options = arguments.parse_intermixed_args()
    rows = {"untrained": [], **{method: [] for method in options.methods}}
    for seed in options.seeds:
        for method in rows:
            rows[method].append(cell(method, seed, options.overrides))
            print(f"{method} seed {seed}: " + json.dumps(rows[method][-1]), flush=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(table(rows, options))
    print(f"written to {options.out}")


def cell(method: str, seed: int, overrides: list[str]) -> dict[str, float]:
    """Recall@1 on the validation and test classes after training, in percent."""
    chosen = "npair" if method == "untrained" else method
    params = compose([f"method={chosen}", f"seed={seed}", *overrides])
    shards = Path("data/shards", params.dataset.name)
    run = identify(params, load_manifest(shards)["digest"])
    cached = run.folder / f"benchmark_{'untrained' if method == 'untrained' else 'trained'}.json"
    if cached.exists():
        return json.loads(cached.read_text())
    if method == "untrained":
        embedder = build_embedder(asdict(params.model), seed)
    else:
        embedder, _ = train_rank(
            params,
            shards,
            open_store(run.checkpoints),
            CPU,
            RunHooks(say=lambda line: print(" ", line)),
        )
    scores = {}
    for split in ("val", "test"):
        images = ShardedImages(shards, split)
        x_ND = embed(embedder, images, CPU)
        recall = score(x_ND, images.labels, [1], draws=0).values["recall@1"]
        scores[split] = round(100 * recall, 2)
    cached.parent.mkdir(parents=True, exist_ok=True)
    cached.write_text(json.dumps(scores))
    return scores


def table(rows: dict[str, list[dict[str, float]]], options: argparse.Namespace) -> str:
    """Mean and standard deviation over the seeds, as Markdown."""
    lines = [
        f"Command: `python -m benchmarks.methods {' '.join(options.overrides)}`".rstrip(" `") + "`",
        f"Machine: {describe_hardware()}. Date: {date.today()}. Seeds: {options.seeds}.",
        "",
        "| method | Recall@1, test (unseen classes) | Recall@1, validation | each seed, test |",
        "|---|---|---|---|",
    ]
    for method, scores in rows.items():
        cells = [f"{np.mean(v):.1f} ± {_spread(v):.1f}" for v in _columns(scores)]
        each = " / ".join(f"{score['test']:.1f}" for score in scores)
        lines.append(f"| {method} | {cells[0]} | {cells[1]} | {each} |")
    return "\n".join(lines) + "\n"


def _names(text: str) -> list[str]:
    return text.split(",")


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def _columns(scores: list[dict[str, float]]) -> list[list[float]]:
    return [[score[split] for score in scores] for split in ("test", "val")]


def _spread(values: list[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


if __name__ == "__main__":
    main()
