"""What MLflow keeps of a run. Without MLflow a null tracker takes its place.

The stages of a pipeline are processes of their own; they write to the same MLflow run, whose id the
run's folder keeps.
"""

import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from rhs.run import Run


class NullTracker:
    """Takes everything and keeps nothing."""

    run_id = None

    def metrics(self, values: dict, step: int) -> None:
        """Nothing is kept."""

    def artifacts(self, folder: Path, name: str) -> None:
        """Nothing is kept."""

    def register(self, model: Path, name: str, score: float | None) -> None:
        """Nothing is kept."""


@dataclass(frozen=True)
class Tracker(NullTracker):
    """Writes to one MLflow run, from any process.

    Args:
        uri: of the tracking server or database.
        run_id: of the run, which exists.
    """

    uri: str
    run_id: str

    def metrics(self, values: dict, step: int) -> None:
        """Log numbers under their names; `@`, which MLflow does not allow, becomes `_at_`."""
        import time

        from mlflow import MlflowClient
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        entries = [
            Metric(name.replace("@", "_at_"), float(value), now, step)
            for name, value in values.items()
        ]
        MlflowClient(self.uri).log_batch(self.run_id, metrics=entries, synchronous=True)

    def artifacts(self, folder: Path, name: str) -> None:
        """Attach a folder."""
        from mlflow import MlflowClient

        MlflowClient(self.uri).log_artifacts(self.run_id, str(folder), name)

    def register(self, model: Path, name: str, score: float | None) -> None:
        """Log a saved model and register it; see `rhs.serving.register`."""
        from rhs.serving import register

        register(model, name, score)


@contextmanager
def tracked(params: DictConfig, run: Run, manifest: dict, system: bool = False) -> Iterator:
    """The tracker of this run, its MLflow run being active (and marked failed on an exception).

    Args:
        manifest: of the shards, for the data set's digest.
        system: sample processor, memory and network use meanwhile.
    """
    if not params.tracking.enabled:
        yield NullTracker()
        return
    import mlflow

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    uri = tracking_uri()
    mlflow.set_tracking_uri(uri)
    remembered = run.folder / "mlflow_run_id"
    run_id = remembered.read_text().strip() if remembered.exists() else None
    if run_id is not None and not _exists(run_id):
        print(f"MLflow run {run_id} is not at {uri}: starting another", file=sys.stderr)
        run_id = None
    _set_experiment(params.tracking.experiment)
    with mlflow.start_run(run_id=run_id, run_name=run.name, log_system_metrics=system) as active:
        if run_id is None:
            _describe(params, manifest)
            run.folder.mkdir(parents=True, exist_ok=True)
            remembered.write_text(active.info.run_id + "\n")
        yield Tracker(uri, active.info.run_id)


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, or a database file in the project folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path('mlflow.db').resolve()}"


def _set_experiment(name: str) -> None:
    import mlflow

    if mlflow.get_experiment_by_name(name) is None:
        local = tracking_uri().startswith("sqlite:")
        place = Path("mlartifacts").resolve().as_uri() if local else None
        mlflow.create_experiment(name, artifact_location=place)
    mlflow.set_experiment(name)


def _exists(run_id: str) -> bool:
    import mlflow

    try:
        return mlflow.get_run(run_id).info.lifecycle_stage == "active"
    except mlflow.MlflowException:
        return False


def _describe(params: DictConfig, manifest: dict) -> None:
    """Parameters, revisions and the data set: what the run is a function of."""
    import mlflow
    from mlflow.data.dataset_source_registry import resolve_dataset_source
    from mlflow.data.meta_dataset import MetaDataset

    mlflow.log_params(flatten(OmegaConf.to_container(params, resolve=True)))
    mlflow.set_tags({"git.commit": _git_commit(), "dvc.experiment": os.environ.get("DVC_EXP_NAME"),
                     "dvc.baseline": os.environ.get("DVC_EXP_BASELINE_REV"),
                     "data.digest": manifest["digest"]})  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it matches two sources of one and the same kind
        source = resolve_dataset_source(str(Path("data/shards", manifest["dataset"]).resolve()))
    # MLflow shortens digests to 36 characters; the whole one is the tag above.
    dataset = MetaDataset(source, name=manifest["dataset"], digest=manifest["digest"][:36])
    mlflow.log_input(dataset, context="train")


def flatten(tree: dict, prefix: str = "") -> dict[str, object]:
    """Nested parameters as one level of dotted names; lists and leaves stay as they are."""
    flat: dict[str, object] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _git_commit() -> str:
    """The commit, marked when files differ from it; 'unknown' outside of a git checkout."""
    told = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return told.stdout.strip() or "unknown"
