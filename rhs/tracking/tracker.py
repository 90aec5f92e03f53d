"""What MLflow keeps of a run. Without MLflow a null tracker takes its place.

The stages of a pipeline are processes of their own; they write to the same MLflow run, whose id the
run's folder keeps. Numbers go to a file there first (rhs.tracking.spool) and from it to MLflow in
the background (rhs.tracking.delivery), so that a run neither waits for MLflow nor needs it.
"""

import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rhs.config.redact import without_secrets
from rhs.errors import UserError
from rhs.explain import explain
from rhs.run import Run
from rhs.tracking.delivery import Delivery
from rhs.tracking.mlflow_run import is_away, is_refused, open_run, reason
from rhs.tracking.spool import Spool
from rhs.tracking.system_metrics import sampled
from rhs.tracking.tracking_uri import tracking_uri

AXES = ("epoch", "step")  # of the curves, not curves themselves
ANSWER = 30.0  # seconds in which MLflow is to answer at the start; later it is away for now
QUIET = {
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",  # its import would set another again
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
# MLflow itself would try for minutes in one call.
TIMEOUT = "MLFLOW_HTTP_REQUEST_TIMEOUT"
IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", TIMEOUT: "10"}
# Their remarks on a server that is away, with tracebacks; ours is one sentence.
LEVELS = {"mlflow": logging.WARNING, "mlflow.store": logging.CRITICAL, "urllib3": logging.ERROR}


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

    def register(self, model: Path, log: Callable[[str, str], str]) -> str | None:
        """Nothing is kept."""


@dataclass(frozen=True)
class Tracker(NullTracker):
    """Writes to the MLflow run of a run. Numbers never wait for MLflow; files do.

    Args:
        uri: of the tracking server or database.
        data_digest: of the data the run was trained and scored on.
    """

    uri: str
    data_digest: str
    spool: Spool
    delivery: Delivery

    @property
    def run_id(self) -> str | None:
        """Of the MLflow run; None until MLflow has answered."""
        return self.delivery.run_id

    def metrics(
        self, values: dict, step: int, group: str = "train", model_id: str | None = None
    ) -> None:
        """Record numbers as `<group>/<name>`; `@`, which MLflow does not allow, becomes `_at_`.

        Args:
            model_id: of the registered model that the numbers belong to.
        """
        self.spool.add(group, [(step, _numbers(values))], model_id, self.run_id)
        self.delivery.wake()

    def steps(self, rows: list[dict]) -> None:
        """Record the numbers of steps as `step/<name>`."""
        self.spool.add("step", [(row["step"], _numbers(row)) for row in rows])
        self.delivery.wake()

    def system(self, values: dict[str, float], step: int) -> None:
        """Record the use of this machine; see `rhs.tracking.system_metrics`."""
        self.metrics(values, step, "system")

    def artifacts(self, folder: Path, name: str) -> None:
        """Attach a folder, or say that it was left out: MLflow is away or refuses it."""
        self._now(
            lambda run_id: self.delivery.client.log_artifacts(run_id, str(folder), name),
            f"{folder} was not attached to the run; `python -m pipelines.report` attaches it",
        )

    def register(self, model: Path, log: Callable[[str, str], str]) -> str | None:
        """Log a saved model to the run and register it, or say that it was left out.

        Args:
            model: folder, for the sentence on what was left out.
            log: is called in the active MLflow run, with the run's id and the data's digest.

        Returns:
            What `log` returns, the id of the logged model; None: it was left out.
        """

        def in_run(run_id: str) -> str:
            import mlflow

            mlflow.set_tracking_uri(self.uri)
            home = self.delivery.client.get_run(run_id).info.experiment_id
            mlflow.set_experiment(experiment_id=home)
            with mlflow.start_run(run_id=run_id):
                return log(run_id, self.data_digest)

        return self._now(
            in_run, f"{model} was not registered; `python -m pipelines.evaluate` registers it"
        )

    def _now(self, work: Callable[[str], Any], left_out: str) -> Any:
        """Do what needs MLflow's answer; without one say what was left out."""
        when = "is back"
        if self.run_id is not None:
            try:
                self.delivery.client.get_run(self.run_id)  # it is there, and answers in time
                # Files may take their time, unless the user says how long.
                ours = os.environ.get(TIMEOUT) == IMPATIENT[TIMEOUT]
                with environment({TIMEOUT: None} if ours else {}):
                    return work(self.run_id)
            except Exception as error:  # each kind of store has its own
                if is_away(error):
                    self.delivery.tell(error)
                elif is_refused(error) and explain(error) is None:
                    when = f"takes it; now it refuses it ({reason(error)})"
                else:
                    raise
        print(f"{left_out} when MLflow {when}", file=sys.stderr)
        return None


@contextmanager
def tracked(params: Any, run: Run, manifest: dict, system: bool = False) -> Iterator:
    """The tracker of this run, which MLflow calls running meanwhile (and failed on an exception).

    Numbers that an earlier try could not send are sent first. Where MLflow is away, now or later,
    they are kept in `run.folder`.

    Args:
        params: `Params`, or another dataclass with a `tracking` among its fields.
        manifest: of the shards, for the data set's digest.
        system: sample processor, memory and network use meanwhile.

    Raises:
        UserError: MLflow's address can never work, or it refuses the experiment.
    """
    if not params.tracking.enabled:
        yield NullTracker()
        return
    for name, level in LEVELS.items():
        logging.getLogger(name).setLevel(level)
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    uri = tracking_uri()
    with environment({k: v for k, v in IMPATIENT.items() if k not in os.environ}):
        spool = Spool(run.folder)
        connect = partial(open_run, uri, params, run, manifest)
        delivery = Delivery(spool, connect, without_secrets(uri))
        _start(delivery)
        tracker = Tracker(uri, manifest["digest"], spool, delivery)
        spool.set_status("RUNNING")
        delivery.wake()
        status = "FINISHED"
        try:
            with sampled(tracker.system) if system else nullcontext():
                yield tracker
        except BaseException as error:
            status = "FAILED" if isinstance(error, Exception) else "KILLED"
            raise
        finally:
            spool.set_status(status)
            delivery.close()


def _start(delivery: Delivery) -> None:
    """Start it, and wait until MLflow has answered or is known to be away.

    Raises:
        UserError: it will never answer.
        OSError: the disk that holds the run is full.
    """
    delivery.start()
    if not delivery.first.wait(ANSWER):
        delivery.tell(TimeoutError(f"no answer in {ANSWER:g} s"))
    if delivery.refusal is not None:
        if explain(delivery.refusal) is not None:
            raise delivery.refusal  # the disk is full: not MLflow's fault
        raise UserError(
            f"MLflow at {delivery.place} cannot be used ({reason(delivery.refusal)}): start that "
            "server, correct MLFLOW_TRACKING_URI, or set tracking=none."
        ) from delivery.refusal


def _numbers(values: dict) -> dict[str, float]:
    return {name: float(value) for name, value in values.items() if name not in AXES}


@contextmanager
def environment(values: Mapping[str, str | None]) -> Iterator[None]:
    """Environment variables set, or absent where None, for the length of the block."""
    before = {name: os.environ.get(name) for name in values}
    _set(values)
    try:
        yield
    finally:
        _set(before)


def _set(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
