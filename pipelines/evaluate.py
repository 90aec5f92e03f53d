"""Evaluate: model + shards -> embeddings/<name>/ and metrics.json."""

import json
from pathlib import Path

from omegaconf import DictConfig

from rhs.cluster import connect
from rhs.data.shards import load_manifest
from rhs.evaluation import evaluate
from rhs.run import identify
from rhs.stage import stage
from rhs.tracking import tracked


def main(params: DictConfig) -> None:
    name = params.dataset.name
    shards, model, out = Path("data/shards", name), Path("models", name), Path("embeddings", name)
    manifest = load_manifest(shards)
    run = identify(params, manifest["digest"])
    connect(params.cluster)
    metrics = evaluate(params, shards, model, out)
    Path("metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    with tracked(params, run, manifest) as tracker:
        for split, values in metrics.items():
            tracker.metrics({f"{split}_{key}": value for key, value in values.items()}, step=0)
        score = metrics.get("val", {}).get("recall@1")
        tracker.register(model, params.tracking.registered_model, score)
    for split, values in metrics.items():
        recalls = "  ".join(f"{k} {v:.1%}" for k, v in values.items() if k.startswith("recall@"))
        print(f"{split:>9}  {recalls}")


if __name__ == "__main__":
    stage(main)
