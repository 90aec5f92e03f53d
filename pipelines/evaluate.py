"""Evaluate: model + shards -> embeddings/<name>/, index/<name>/ and metrics.json."""

import json
from collections.abc import Mapping
from pathlib import Path

from omegaconf import DictConfig

from rhs.data.shards import ShardedImages, has_split, load_manifest
from rhs.data.travel import find_shards
from rhs.evaluation.embed import UNTRAINED, embed, kept, publish
from rhs.evaluation.scoring import check_settings, flat, line, measure
from rhs.models.embedder import load_config
from rhs.models.travel import find_model
from rhs.retrieval.stored import read_files
from rhs.run import named
from rhs.search.build import build_index
from rhs.search.kinds import checked
from rhs.stage import plain, stage
from rhs.storage.atomic import whole_folder
from rhs.tracking.tracker import NullTracker, tracked

METRICS = Path("metrics.json")
SCORED = ("val", "test")


def main(params: DictConfig) -> None:
    name = params.dataset.name
    shards, out, index = find_shards(params), Path("embeddings", name), Path("index", name)
    manifest, model = load_manifest(shards), find_model(params)
    # Before anything is embedded: a mistake is refused at once.
    check_settings(params)
    settings = checked(plain(params.index))
    example = ShardedImages(shards, "test").bytes(0)
    splits = [s for s in (*SCORED, *settings["splits"]) if has_split(shards, s)]
    run = named(load_config(model)["run"])
    with tracked(params, run, manifest) as tracker:
        with kept(run.folder / "embeddings") as work:
            files = embed(params, shards, list(dict.fromkeys(splits)), model, work)
            metrics = {s: measure(params, files[s]) for s in (*SCORED, UNTRAINED) if s in files}
            with whole_folder(index) as folder:
                embedded = {s: read_files(files[s]) for s in settings["splits"] if s in files}
                facts = build_index(folder, shards, embedded, model, settings)
            publish(files, out)
            write(metrics)
        track(tracker, params, metrics, model, example, index, facts)
    for split, values in metrics.items():
        print(line(split, values))


def write(metrics: dict) -> None:
    """metrics.json, whole or not at all."""
    partial = METRICS.with_suffix(".tmp")
    try:
        partial.write_text(json.dumps(metrics, indent=2) + "\n")
        partial.rename(METRICS)
    finally:
        partial.unlink(missing_ok=True)


def track(
    tracker: NullTracker,
    params: DictConfig,
    metrics: dict,
    model: Path,
    example: bytes,
    index: Path | None = None,
    facts: Mapping | None = None,
) -> None:
    score = metrics.get("val", {}).get("recall@1")
    registered = tracker.register(model, params.tracking.registered_model, score, example, index)
    for split, values in metrics.items():
        tracker.metrics(flat(values), step=0, group=split, model_id=registered)
    if numbers := {k: v for k, v in (facts or {}).items() if isinstance(v, (int, float))}:
        tracker.metrics(numbers, step=0, group="index", model_id=registered)


if __name__ == "__main__":
    stage(main)
