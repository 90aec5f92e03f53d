"""Report: what every stage before left behind -> report/: index, failures and explorer pages."""

import csv
import json
from dataclasses import asdict
from pathlib import Path

from rhs.config.redact import redacted
from rhs.config.settings import Params
from rhs.data.embedding_files import read_split
from rhs.data.remote_shards import find_shards
from rhs.data.shards import ShardedImages, load_manifest
from rhs.errors import UserError
from rhs.models.embedder import load_config
from rhs.report.run.page import Results, build_report
from rhs.run import run_by_name
from rhs.stage import stage
from rhs.storage.atomic import atomic_folder
from rhs.storage.outputs import PAGES
from rhs.tracking.tracker import tracked

OUT = Path("report")
STUDIES = Path("benchmarks/results")
ELSEWHERE = ("cluster", "tracking")  # groups that do not change the result


def main(params: Params) -> None:
    name = params.dataset.name
    shards = find_shards(params)
    manifest = load_manifest(shards)
    model, embeddings, metrics = (
        Path("models", name),
        Path("embeddings", name),
        Path("metrics.json"),
    )
    for path, maker in ((model, "train"), (embeddings, "evaluate"), (metrics, "evaluate")):
        if not path.exists():
            raise UserError(f"{path} not found: run the {maker} stage first.")
    history = model / "history.csv"
    test = read_split(embeddings, "test")
    about = load_config(model)
    run = run_by_name(about["run"])
    results = Results(
        title=f"{name}: retrieval on unseen classes",
        params={k: v for k, v in redacted(asdict(params)).items() if k not in ELSEWHERE},
        manifest=manifest,
        history=list(csv.DictReader(history.open(newline="", encoding="utf-8"))),
        metrics=json.loads(metrics.read_text(encoding="utf-8")),
        shards={"test": ShardedImages(shards, "test")},
        splits={"test": (test.embeddings, test.labels)},
        seed=params.seed,
        collapse=_study(STUDIES / f"collapse_{name}.json"),
        run=run.name,
        select=about.get("checkpoint", {}).get("select", "last"),
    )
    with atomic_folder(OUT, PAGES) as folder:
        build_report(folder, results)
    with tracked(params, run, manifest) as tracker:
        tracker.artifacts(OUT, "report")
    print(f"open {OUT / 'index.html'}")


def _study(path: Path) -> dict | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


if __name__ == "__main__":
    stage(main)
