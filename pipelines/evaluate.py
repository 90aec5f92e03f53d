"""Evaluate: model + shards -> embeddings/<name>/ and metrics.json."""

import json
from pathlib import Path

from omegaconf import DictConfig

from rhs.cluster import connect
from rhs.data.shards import ShardedImages, load_manifest
from rhs.data.travel import find_shards
from rhs.evaluation import evaluate
from rhs.models.embedder import load_config
from rhs.models.travel import find_model
from rhs.run import named
from rhs.stage import stage
from rhs.tracking.tracker import NullTracker, tracked

METRICS = Path("metrics.json")
COUNTS = ("queries", "left_out")  # facts of the data, no scores


def main(params: DictConfig) -> None:
    name = params.dataset.name
    shards, out = find_shards(params), Path("embeddings", name)
    manifest, model = load_manifest(shards), find_model(params)
    run = named(load_config(model)["run"])
    with tracked(params, run, manifest) as tracker:
        connect(params.cluster)
        metrics = evaluate(params, shards, model, out)
        write(metrics)
        track(tracker, params, metrics, model, ShardedImages(shards, "test").bytes(0))
    for split, values in metrics.items():
        recalls = "  ".join(f"{k} {v:.1%}" for k, v in values.items() if k.startswith("recall@"))
        print(f"{split:>9}  {recalls}")


def write(metrics: dict) -> None:
    """metrics.json, whole or not at all."""
    partial = METRICS.with_suffix(".tmp")
    try:
        partial.write_text(json.dumps(metrics, indent=2) + "\n")
        partial.rename(METRICS)
    finally:
        partial.unlink(missing_ok=True)


def track(
    tracker: NullTracker, params: DictConfig, metrics: dict, model: Path, example: bytes
) -> None:
    score = metrics.get("val", {}).get("recall@1")
    registered = tracker.register(model, params.tracking.registered_model, score, example)
    for split, values in metrics.items():
        scores = {name: value for name, value in values.items() if name not in COUNTS}
        tracker.metrics(scores, step=0, group=split, model_id=registered)


if __name__ == "__main__":
    stage(main)
