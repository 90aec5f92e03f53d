"""Evaluate: model + shards -> embeddings/<name>/, index/<name>/ and metrics.json."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from rhs.config.settings import Params
from rhs.data.embedding_files import read_files
from rhs.data.remote_shards import find_shards
from rhs.data.shards import ShardedImages, has_split, load_manifest
from rhs.evaluation.resumable_embedding import UNTRAINED, embed, publish, work_folder
from rhs.evaluation.scoring import check_answers, flat_metrics, score_files, summary_line
from rhs.inference.faiss_index import check_index_settings
from rhs.inference.index import LEFT_OUT
from rhs.inference.index_builder import build_index
from rhs.models.embedder import load_config
from rhs.models.remote_models import find_model
from rhs.run import run_by_name
from rhs.stage import stage
from rhs.storage.atomic import atomic_file, atomic_folder
from rhs.storage.outputs import INDEX
from rhs.tracking.tracker import NullTracker, tracked

METRICS = Path("metrics.json")
SCORED = ("val", "test")


def main(params: Params) -> None:
    name = params.dataset.name
    shards, out, index = find_shards(params), Path("embeddings", name), Path("index", name)
    manifest, model = load_manifest(shards), find_model(params)
    scored = [s for s in SCORED if has_split(shards, s)]
    check_answers(shards, scored)
    indexed = _indexed(params, manifest, load_config(model)["dim"])
    splits = list(dict.fromkeys([*scored, *indexed]))
    example = ShardedImages(shards, "test").bytes(0)
    run = run_by_name(load_config(model)["run"])
    with tracked(params, run, manifest) as tracker:
        with work_folder(run.folder / "embeddings") as work:
            files = embed(params, shards, splits, model, work)
            metrics = {split: score_files(params, files[split]) for split in scored}
            if UNTRAINED in files:
                seeds = min(1, params.evaluate.nmi_seeds)  # it is there to compare with
                metrics[UNTRAINED] = score_files(params, files[UNTRAINED], seeds)
            with atomic_folder(index, INDEX) as folder:
                facts = None
                if indexed:
                    embedded = {split: read_files(files[split]) for split in indexed}
                    facts = build_index(folder, shards, embedded, model, asdict(params.index))
                else:
                    _leave_out(folder, params)
                publish(files, out)
                write(metrics)
        track(tracker, params, metrics, model, example, index if indexed else None, facts)
    for split, values in metrics.items():
        print(summary_line(split, values))


def _indexed(params: Params, manifest: Mapping, dim: int) -> list[str]:
    """The splits whose images are indexed; none where no process can hold them.

    Raises:
        UserError: settings of the index that are wrong, or impossible for these images.
    """
    settings = check_index_settings(asdict(params.index))
    images = {split: manifest["splits"][split]["images"] for split in settings["splits"]}
    if params.cluster.gallery_shards:
        return []
    check_index_settings(settings, images=sum(images.values()), dim=dim)
    return [split for split, count in images.items() if count]


def _leave_out(folder: Path, params: Params) -> None:
    """DVC wants the folder of the index; it says why there is none."""
    why = (
        f"no index: one process would have to hold all images, and cluster.gallery_shards = "
        f"{params.cluster.gallery_shards} says that none can"
    )
    (folder / LEFT_OUT).write_text(f"{why}.\n")
    print(why)


def write(metrics: dict) -> None:
    """metrics.json, whole or not at all."""
    with atomic_file(METRICS) as partial:
        partial.write_text(json.dumps(metrics, indent=2) + "\n")


def track(
    tracker: NullTracker,
    params: Params,
    metrics: dict,
    model: Path,
    example: bytes,
    index: Path | None = None,
    facts: Mapping | None = None,
) -> None:
    def log(run_id: str, data_digest: str) -> str:
        from rhs.inference.mlflow_model import register  # brings MLflow along

        name = params.tracking.registered_model
        assert name is not None, "where tracking is enabled there is one"
        score = metrics.get("val", {}).get("recall@1")
        return register(model, name, score, run_id, data_digest, example, index=index)

    registered = tracker.register(model, log)
    for split, values in metrics.items():
        tracker.metrics(flat_metrics(values), step=0, group=split, model_id=registered)
    if numbers := {k: v for k, v in (facts or {}).items() if isinstance(v, (int, float))}:
        tracker.metrics(numbers, step=0, group="index", model_id=registered)


if __name__ == "__main__":
    stage(main)
