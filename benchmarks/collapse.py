"""Class collapse: do classes inside a coarse label survive training on the coarse label alone?

    python -m benchmarks.collapse                       glyphs, three seeds
    python -m benchmarks.collapse train.epochs=2 --seeds=0 --arms=random,easy

The training labels are groups of classes (`dataset.coarse`); the scores ask for the classes. All
arms train the same network on the same batches with the same loss, negatives and budget, and differ
in the positive that an anchor is compared with. Nothing is chosen by its score: the last epoch
counts. Finished cells are kept under runs/, and an interrupted one continues.
"""

import argparse
import json
import shlex
import statistics
from dataclasses import asdict
from datetime import date
from pathlib import Path

import numpy as np
import torch

from rhs.config.compose import compose
from rhs.config.settings import CheckpointConfig, Params
from rhs.data.labels import training_labels
from rhs.data.shards import ShardedImages, load_manifest
from rhs.methods.diagnostics import intra_inter_ratio
from rhs.metrics.retrieval import score
from rhs.models.embedder import Embedder, build_embedder
from rhs.run import Run, identify
from rhs.storage.store import open_store
from rhs.tracking.hardware import describe_hardware
from rhs.training import checkpoint
from rhs.training.hooks import RunHooks
from rhs.training.worker import embed, train_rank

CPU = torch.device("cpu")
# What all arms share. The groups of glyphs: script and case, and one for whatever has no case.
SHARED = (
    r"dataset.coarse='U\+\w+ (\w+ (?:SMALL|CAPITAL)|)'",
    "method=npair_easy_hard",
    "method.mining.negatives=all",
    "model.image_size=32",
    "model.trunk.widths=[16,32,64,128]",
    "model.dim=64",
    "train.classes=4",
    "train.per_class=64",
    "train.epochs=12",
)
# Name -> title, and what it changes.
ARMS = {
    "untrained": ("Untrained", ()),
    "random": ("Random positives", ("method.mining.positives=random",)),
    "easy": ("Easy positives", ("method.mining.positives=easy",)),
    "rhs": (
        "Random positives, rotated (RHS)",
        (
            "method.mining.positives=random",
            "+method.mining.synthetic_negatives=false",
            "+method.centers={_target_:rhs.methods.centers.EMACenters,momentum:0.5}",
            "+method.generator={_target_:rhs.methods.generators.rotation.Rotation}",
        ),
    ),
}
COLUMNS = {
    "recall_seen": ("Recall@1, classes", "training images", True),
    "recall_unseen": ("Recall@1, unseen classes", "test images", True),
    "recall_groups": ("Recall@1, groups", "training images", True),
    "class_share": ("Between classes", "share of the variance inside groups", True),
    "intra_inter_ratio": ("Spread inside groups", "over that between them; 0: a point", False),
    "effective_rank": ("Effective rank", "directions filled", False),
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("overrides", nargs="*", help="Hydra overrides for every cell")
    arguments.add_argument("--arms", type=lambda text: text.split(","), default=list(ARMS))
    arguments.add_argument("--seeds", type=lambda text: json.loads(f"[{text}]"), default="0,1,2")
    arguments.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = arguments.parse_intermixed_args()
    cells: dict[str, list[dict]] = {arm: [] for arm in options.arms}
    for seed in options.seeds:
        for arm in options.arms:
            cells[arm].append(cell(arm, seed, options.overrides))
            print(f"{arm} seed {seed}: " + json.dumps(cells[arm][-1]["scores"]), flush=True)
    study = describe_study(options)
    study["arms"] = [{"name": a, "title": ARMS[a][0], "cells": cells[a]} for a in options.arms]
    options.out.mkdir(parents=True, exist_ok=True)
    stem = options.out / f"collapse_{study['dataset']}"
    stem.with_suffix(".json").write_text(json.dumps(study, indent=1) + "\n")
    stem.with_suffix(".md").write_text(table(study))
    print(f"written to {stem}.json and {stem}.md")


def cell(arm: str, seed: int, overrides: list[str]) -> dict:
    """Seed, scores after the last epoch, and the curve of those that training images have."""
    params = compose(
        [*SHARED, *ARMS[arm][1], f"method.name=collapse_{arm}", f"seed={seed}", *overrides]
    )
    shards = Path("data/shards", params.dataset.name)
    run = identify(params, load_manifest(shards)["digest"])
    kept = run.folder / "collapse.json"
    if kept.exists():
        return json.loads(kept.read_text())
    run.folder.mkdir(parents=True, exist_ok=True)
    ruler = Ruler(shards, params.dataset.coarse)
    embedder = build_embedder(asdict(params.model), seed)
    curve = [{"epoch": 0} | ruler.seen(embedder)]
    if arm != "untrained":
        curve += trained(params, shards, run, ruler, embedder)
    scores = curve[-1] | {"recall_unseen": ruler.unseen(embedder)}
    done = {"seed": seed, "scores": {name: scores[name] for name in COLUMNS}, "curve": curve}
    kept.write_text(json.dumps(done))
    return done


def trained(
    params: Params, shards: Path, run: Run, ruler: "Ruler", embedder: Embedder
) -> list[dict]:
    """Train, and measure after each epoch; leaves the last weights in `embedder`."""
    log = run.folder / "collapse.jsonl"
    lines = log.read_text().splitlines() if log.exists() else []
    curve = {row["epoch"]: row for row in map(json.loads, lines)}

    def measure(row: dict) -> None:
        tensors, _ = checkpoint.load(store, row["step"])
        embedder.load_state_dict(checkpoint.with_prefix("model.", tensors))
        if row["epoch"] in curve:
            return
        curve[row["epoch"]] = {"epoch": row["epoch"]} | ruler.seen(embedder)
        with log.open("a") as file:
            file.write(json.dumps(curve[row["epoch"]]) + "\n")
        print(f"  recall_seen {curve[row['epoch']]['recall_seen']:.1%}", flush=True)

    store = open_store(run.checkpoints)
    keep_all = CheckpointConfig(every_seconds=None, every_steps=None, keep=params.train.epochs)
    hooks = RunHooks(say=lambda line: print(" ", line, flush=True))
    _, progress = train_rank(params.with_cluster(checkpoint=keep_all), shards, store, CPU, hooks)
    for row in progress.history:
        measure(row)
    return [curve[epoch] for epoch in sorted(curve)]


class Ruler:
    """The images that all cells are measured on."""

    def __init__(self, shards: Path, coarse: str):
        self.train, self.test = ShardedImages(shards, "train"), ShardedImages(shards, "test")
        self.groups_N, _ = training_labels(self.train.labels, self.train.class_names, coarse)

    def seen(self, embedder: Embedder) -> dict[str, float]:
        """Scores on the training images."""
        x_ND = embed(embedder, self.train, CPU)
        return {
            "recall_seen": _recall(x_ND, self.train.labels),
            "recall_groups": _recall(x_ND, self.groups_N),
        } | spread(x_ND, self.train.labels, self.groups_N)

    def unseen(self, embedder: Embedder) -> float:
        """Recall@1 on the test images."""
        return _recall(embed(embedder, self.test, CPU), self.test.labels)


def spread(x_ND: np.ndarray, labels_N: np.ndarray, groups_N: np.ndarray) -> dict[str, float]:
    """Where the embeddings' variance lies.

    Returns:
        intra_inter_ratio: of the groups, as in rhs.methods.diagnostics; 0: each is one point.
        class_share: of the variance inside groups, the share between classes; 0: classes of a
            group lie in one place, 1: each class is one point.
        effective_rank: (sum)^2 / sum of squares of the covariance's eigenvalues.
    """
    ratio = intra_inter_ratio(torch.from_numpy(x_ND), torch.from_numpy(groups_N))
    x_ND = x_ND.astype(np.float64) - x_ND.mean(0, dtype=np.float64)
    inside = float(((x_ND - _centers(x_ND, groups_N)) ** 2).sum())
    residual = float(((x_ND - _centers(x_ND, labels_N)) ** 2).sum())
    eigenvalues_D = np.linalg.eigvalsh(x_ND.T @ x_ND)
    squares = float((eigenvalues_D**2).sum())
    return {
        "intra_inter_ratio": float(ratio),
        "class_share": 1 - residual / inside if inside else 0.0,
        "effective_rank": float(eigenvalues_D.sum()) ** 2 / squares if squares else 0.0,
    }


def _centers(x_ND: np.ndarray, labels_N: np.ndarray) -> np.ndarray:
    """The mean of each row's class [N, D]."""
    _, class_N, count_C = np.unique(labels_N, return_inverse=True, return_counts=True)
    sums_CD = np.zeros((len(count_C), x_ND.shape[1]))
    np.add.at(sums_CD, class_N, x_ND)
    return (sums_CD / count_C[:, None])[class_N]


def _recall(x_ND: np.ndarray, labels_N: np.ndarray) -> float:
    return score(x_ND, labels_N, [1], draws=0).values["recall@1"]


def describe_study(options: argparse.Namespace) -> dict:
    """What was compared, where and when."""
    params = compose([*SHARED, *options.overrides])
    ruler = Ruler(Path("data/shards", params.dataset.name), params.dataset.coarse)
    command = ["python", "-m", "benchmarks.collapse", *options.overrides]
    if options.seeds != [0, 1, 2]:
        command.append(f"--seeds={','.join(map(str, options.seeds))}")
    if options.arms != list(ARMS):
        command.append(f"--arms={','.join(options.arms)}")
    return {
        "dataset": params.dataset.name,
        "command": shlex.join(command),
        "machine": describe_hardware(),
        "date": str(date.today()),
        "coarse": params.dataset.coarse,
        "groups": len(np.unique(ruler.groups_N)),
        "classes": len(np.unique(ruler.train.labels)),
        "unseen_classes": len(np.unique(ruler.test.labels)),
        "columns": {
            name: {"title": title, "note": note, "percent": percent}
            for name, (title, note, percent) in COLUMNS.items()
        },
    }


def table(study: dict) -> str:
    """Mean and standard deviation over the seeds, and each seed, as Markdown."""
    seeds = [cell["seed"] for cell in study["arms"][0]["cells"]]
    titles = [f"{title}, {note}" for title, note, _ in COLUMNS.values()]
    lines = [
        f"Command: `{study['command']}`",
        f"Machine: {study['machine']}. Date: {study['date']}. Seeds: {seeds}.",
        "",
        f"{study['classes']} training classes in {study['groups']} groups by the expression "
        f"`{study['coarse']}`; {study['unseen_classes']} unseen classes. Groups are all that "
        "training sees.",
        "",
        f"| positives | {' | '.join(titles)} |",
        "|---" * (1 + len(titles)) + "|",
    ]
    for arm in study["arms"]:
        cells = [_text([c["scores"][name] for c in arm["cells"]], name) for name in COLUMNS]
        lines.append(f"| {arm['title']} | {' | '.join(cells)} |")
    lines += ["", "Each seed:", "", *lines[5:7]]
    for arm in study["arms"]:
        for one in arm["cells"]:
            cells = [_text([one["scores"][name]], name) for name in COLUMNS]
            lines.append(f"| {arm['title']}, seed {one['seed']} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _text(values: list[float], column: str) -> str:
    """Mean ± standard deviation; shares in percent."""
    scale, digits = (100, 1) if COLUMNS[column][2] else (1, 2)
    mean = f"{scale * statistics.fmean(values):.{digits}f}"
    return mean if len(values) < 2 else f"{mean} ± {scale * statistics.stdev(values):.{digits}f}"


if __name__ == "__main__":
    main()
