"""What MLflow keeps of a study: a run of its own, and one beneath it for each trial and cell."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from rhs.config.compose import compose
from rhs.config.settings import TrackingConfig
from rhs.data.shards import load_manifest
from rhs.run import Run
from rhs.study.cells import Cell
from rhs.study.settings import StudySettings
from rhs.tracking.tracker import NullTracker, Tracker, environment, tracked
from rhs.tuning.callback import CONTEXT


class _Failed(Exception):
    """Says to MLflow that a cell failed."""


@dataclass(frozen=True)
class _StudyParams:
    """What MLflow is to show as the parameters of the study's own run."""

    study: StudySettings
    tracking: TrackingConfig


@contextmanager
def tracked_study(
    settings: StudySettings, shards: Mapping[str, Path], folder: Path
) -> Iterator[NullTracker]:
    """The tracker of the study's run, whose parameters are the study's settings.

    Args:
        shards: by the data set's label.
    """
    chosen = compose([*settings.base, f"tracking.experiment={settings.name}"]).tracking
    params = _StudyParams(settings, chosen)
    digests = {data: load_manifest(where)["digest"] for data, where in shards.items()}
    digest = hashlib.sha256(json.dumps(digests).encode()).hexdigest()
    manifest = {"dataset": settings.name, "digest": digest}
    with tracked(params, Run(f"study-{settings.name}", folder), manifest) as tracker:
        yield tracker


def track_cell(
    study: NullTracker, experiment: str, cell: Cell, result: Mapping, folder: Path
) -> None:
    """An MLflow run of a finished cell: its epochs, its scores, or that it failed.

    Args:
        study: of the study's own run.
        experiment: that both belong to.
        folder: of the cell.
    """
    if not isinstance(study, Tracker):
        return
    tags = {} if study.run_id is None else {"mlflow.parentRunId": study.run_id}
    tracking = replace(cell.params.tracking, experiment=experiment)
    params = replace(cell.params, tracking=tracking)
    run, manifest = Run(cell.run, folder), load_manifest(cell.shards)
    with (
        environment({CONTEXT: json.dumps(tags)}),
        suppress(_Failed),
        tracked(params, run, manifest) as tracker,
    ):
        for row in result.get("history", []):
            tracker.metrics(row, row["step"])
        for which, scores in result.get("scores", {}).items():
            tracker.metrics(scores, scores["epoch"], f"test_{which}")
        if "failed" in result:
            raise _Failed(result["failed"])  # the run's status becomes FAILED
