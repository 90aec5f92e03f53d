"""What MLflow keeps of a run. Without MLflow a null tracker takes its place.

The stages of a pipeline are processes of their own; they write to the same MLflow run, whose id the
run's folder keeps.
"""

import logging
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from rhs.errors import UserError
from rhs.provenance import describe
from rhs.run import Run, project

AXES = ("epoch", "step")  # of the curves, not curves themselves
POINTS = 200  # of a curve by step that an epoch adds, at most
AT_ONCE = 1000  # metrics that MLflow takes in one call
QUIET = {
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
# A server that is not there is told of within seconds; MLflow itself would try for minutes.
IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}


class NullTracker:
    """Takes everything and keeps nothing."""

    def metrics(
        self, values: dict, step: int, group: str = "train", model_id: str | None = None
    ) -> None:
        """Nothing is kept."""

    def steps(self, rows: list[dict]) -> None:
        """Nothing is kept."""

    def artifacts(self, folder: Path, name: str) -> None:
        """Nothing is kept."""

    def register(self, model: Path, name: str, score: float | None, example: bytes) -> str | None:
        """Nothing is kept."""


@dataclass(frozen=True)
class Tracker(NullTracker):
    """Writes to one MLflow run, from any process.

    Args:
        uri: of the tracking server or database.
        run_id: of the run, which exists.
        data_digest: of the data the run was trained and scored on.
    """

    uri: str
    run_id: str
    data_digest: str

    def metrics(
        self, values: dict, step: int, group: str = "train", model_id: str | None = None
    ) -> None:
        """Log numbers as `<group>/<name>`; `@`, which MLflow does not allow, becomes `_at_`.

        Args:
            model_id: of the registered model that the numbers belong to.
        """
        from mlflow import MlflowClient
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        entries = [
            Metric(f"{group}/{name.replace('@', '_at_')}", float(value), now, step, model_id)
            for name, value in values.items()
            if name not in AXES
        ]
        MlflowClient(self.uri).log_batch(self.run_id, metrics=entries, synchronous=True)

    def steps(self, rows: list[dict]) -> None:
        """Log every step's numbers as `step/<name>`; of a long epoch, evenly spaced ones."""
        from mlflow import MlflowClient
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        entries = [
            Metric(f"step/{name}", float(value), now, row["step"])
            for row in rows[:: max(1, -(-len(rows) // POINTS))]
            for name, value in row.items()
            if name not in AXES
        ]
        client = MlflowClient(self.uri)
        for start in range(0, len(entries), AT_ONCE):
            part = entries[start : start + AT_ONCE]
            client.log_batch(self.run_id, metrics=part, synchronous=True)

    def artifacts(self, folder: Path, name: str) -> None:
        """Attach a folder."""
        from mlflow import MlflowClient

        MlflowClient(self.uri).log_artifacts(self.run_id, str(folder), name)

    def register(self, model: Path, name: str, score: float | None, example: bytes) -> str | None:
        """Log a saved model and register it; see `rhs.serving.register`."""
        from rhs.serving import register

        return register(model, name, score, self.run_id, self.data_digest, example)


@contextmanager
def tracked(params: DictConfig, run: Run, manifest: dict, system: bool = False) -> Iterator:
    """The tracker of this run, its MLflow run being active (and marked failed on an exception).

    Args:
        manifest: of the shards, for the data set's digest.
        system: sample processor, memory and network use meanwhile.

    Raises:
        UserError: MLflow cannot be reached or refuses the experiment.
    """
    if not params.tracking.enabled:
        yield NullTracker()
        return
    import mlflow

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    uri = tracking_uri()
    _open(uri, params.tracking.experiment)
    remembered = run.folder / "mlflow_run_id"
    run_id = remembered.read_text().strip() if remembered.exists() else None
    if run_id is not None and not _exists(run_id, params.tracking.experiment):
        print(
            f"MLflow run {run_id} is not in experiment {params.tracking.experiment!r} at "
            f"{shown(uri)}: starting another",
            file=sys.stderr,
        )
        run_id = None
    short = run.name.removeprefix(f"{manifest['dataset']}-")  # the experiment says the rest
    with mlflow.start_run(run_id=run_id, run_name=short, log_system_metrics=system) as active:
        if run_id is None:
            describe(params, manifest)
            run.folder.mkdir(parents=True, exist_ok=True)
            remembered.write_text(active.info.run_id + "\n")
        yield Tracker(uri, active.info.run_id, manifest["digest"])


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, or a database file in the project folder."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{project() / 'mlflow.db'}"
    if relative := re.fullmatch(r"sqlite:///(?!/)(.+)", uri):
        # Workers have other working folders than the process that tells them where to write.
        uri = f"sqlite:///{project() / relative[1]}"
    return uri


def shown(uri: str) -> str:
    """The address without a name and password that may be in it."""
    return re.sub(r"//[^/@]*@", "//", uri)


def _open(uri: str, experiment: str) -> None:
    """Make `experiment` at `uri` the one that runs are added to, or say why that cannot be."""
    import mlflow

    try:
        with _environment(IMPATIENT):
            mlflow.set_tracking_uri(uri)
            if mlflow.get_experiment_by_name(experiment) is None:
                local = uri.startswith("sqlite:")
                place = (project() / "mlartifacts").as_uri() if local else None
                mlflow.create_experiment(experiment, artifact_location=place)
            mlflow.set_experiment(experiment)
    except Exception as error:  # each kind of store has its own
        raise UserError(
            f"MLflow at {shown(uri)} cannot be used ({_root(error)}): start that server, correct "
            "MLFLOW_TRACKING_URI, or set tracking=none."
        ) from error


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Environment variables for the length of the block, where the user has not set them."""
    added = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def _root(error: BaseException) -> str:
    """What went wrong, in a few words: the system's own, where it was the system's error."""
    first = error
    while (earlier := error.__cause__ or error.__context__) is not None:
        error = earlier
    text = str(error) if isinstance(error, OSError) else str(first)
    return shown(text.strip().splitlines()[0].rstrip("."))


def _exists(run_id: str, experiment: str) -> bool:
    import mlflow

    try:
        info = mlflow.get_run(run_id).info
        home = mlflow.get_experiment_by_name(experiment)
    except mlflow.MlflowException:
        return False
    return (
        info.lifecycle_stage == "active"
        and home is not None
        and info.experiment_id == home.experiment_id
    )
