"""Watches a search where it was started: its record, its progress, its runs in MLflow."""

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from shutil import rmtree
from typing import Any

from ray.tune import Callback
from tqdm import tqdm

from rhs.config.settings import Params
from rhs.distributed.worker_deaths import AT_ONCE, death, describe_death
from rhs.errors import Interrupted, UserError
from rhs.explain import explain
from rhs.run import Run
from rhs.tracking.mlflow_run import is_away, is_refused
from rhs.tracking.tracker import NullTracker, Tracker, tracked
from rhs.tuning.searcher import HALTS, REFUSAL
from rhs.tuning.trial import home_of
from rhs.tuning.trial_log import Trial, TrialLog

CONTEXT = "MLFLOW_RUN_CONTEXT"  # tags of every run that MLflow makes from now on, as JSON
DIED = "its process died (killed, out of memory, or with its node)"


class Asked(Exception):
    """Ends Tune's loop: a signal has asked for the end."""


class TrialRuns:
    """An MLflow run of each trial, beneath that of the search; none where `parent` is none.

    Args:
        name: of the search.
        folder: of the search.
        manifest: of the shards.
    """

    def __init__(self, parent: NullTracker, name: str, folder: Path, manifest: dict):
        self.parent, self.name, self.folder, self.manifest = parent, name, folder, manifest
        self.open: dict[int, tuple[AbstractContextManager, Any]] = {}

    def begin(self, number: int, params: Params) -> None:
        """A trial starts, or goes on."""
        if not isinstance(self.parent, Tracker) or number in self.open:
            return
        if self.parent.run_id is not None:
            os.environ[CONTEXT] = json.dumps({"mlflow.parentRunId": self.parent.run_id})
        # Named after the setting too: a search that was deleted and begun anew may suggest others.
        setting = hashlib.sha256(json.dumps(asdict(params), sort_keys=True, default=str).encode())
        name = f"{self.name}-{number:03d}-{setting.hexdigest()[:6]}"
        run = Run(name, home_of(self.folder, number))
        context = tracked(params, run, self.manifest)
        self.open[number] = context, context.__enter__()

    def epoch(self, number: int, row: dict) -> None:
        """An epoch's numbers."""
        if number in self.open:
            self.open[number][1].metrics(row, row["step"])

    def end(self, trial: Trial) -> None:
        """A trial has ended: finished, or failed with its reason as the tag `failure`."""
        if trial.number not in self.open:
            return
        context, tracker = self.open.pop(trial.number)
        _tag(tracker, {"trial.state": trial.state, "failure": trial.reason})
        error = UserError(trial.reason) if trial.state == "failed" else None
        context.__exit__(type(error) if error else None, error, None)

    def interrupt(self) -> None:
        """The search ends before its trials do."""
        for number in list(self.open):
            context, _ = self.open.pop(number)
            error = Interrupted(0, "the search was interrupted")
            context.__exit__(type(error), error, None)


def _tag(tracker: Tracker, tags: dict[str, str | None]) -> None:
    """Set tags now, or not at all where MLflow is away: the record has them too."""
    if tracker.run_id is None:
        return
    try:
        for name, value in tags.items():
            if value is not None:
                tracker.delivery.client.set_tag(tracker.run_id, name, value)
    except Exception as error:  # each kind of store has its own
        if is_away(error):
            tracker.delivery.tell(error)
        elif not is_refused(error):
            raise


class TrialCallback(Callback):
    """What Ray Tune calls in the driver.

    Args:
        objective: its name, for lines.
        total: trials of the search.
        signals: that have asked to end: what fails after that says nothing. Nor does it where the
            disk is full: trials stay unfinished, and the search ends with that sentence.
        say: takes lines for a person to read.
    """

    def __init__(
        self,
        record: TrialLog,
        children: TrialRuns,
        objective: str,
        total: int,
        signals: list[int],
        say: Callable[[str], None],
    ):
        self.record, self.children = record, children
        self.objective, self.total, self.signals, self.say = objective, total, signals, say
        self.refusals: dict[int, str] = {}
        self.halt: str | None = None  # why no trial can go on
        self.bar = tqdm(
            total=total, initial=len(record.ended), desc="tune", unit="trial", disable=None
        )

    def __getstate__(self) -> dict:
        return {}  # Tune keeps a copy of its callbacks; this one is of this process alone

    def on_step_begin(self, iteration: int, trials: list, **info: Any) -> None:
        if self.signals:
            raise Asked
        if self.halt:
            raise UserError(self.halt)

    def on_trial_start(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self.children.begin(trial.config["number"], trial.config["params"])

    def on_trial_result(
        self, iteration: int, trials: list, trial: Any, result: dict, **info: Any
    ) -> None:
        number = trial.config["number"]
        if REFUSAL in result:
            self.refusals[number] = result[REFUSAL]
            if result.get(HALTS):
                self.halt = result[REFUSAL]
        else:
            # Once each, though a trial that goes on tells of its first epochs again.
            self.children.epoch(number, result["row"])
            self.record.epoch(number, result["epoch"], result["value"])

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        number = trial.config["number"]
        if number in self.refusals:
            self._end(number, "failed", self.refusals[number])
            return
        asked = trial.config["params"].train.epochs
        done = self.record.trials[number].epochs
        self._end(number, "finished" if done >= asked else "stopped")

    def on_trial_recover(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        if not self.signals:
            self.say(f"trial {trial.config['number']}: {DIED}; it starts again")

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        error = trial.get_pickled_error()
        reason = None if error is None else explain(error)
        if reason is None and error is not None and death(error):
            reason = f"its process died ({describe_death(error, AT_ONCE)})"
        self._end(trial.config["number"], "failed", reason or DIED)

    def _end(self, number: int, state: str, reason: str | None = None) -> None:
        if self.signals or self.halt:
            return
        self.record.end(number, state, reason)
        trial, best = self.record.trials[number], self.record.best
        self.children.end(trial)
        ended = len(self.record.ended)
        if best is not None:
            values = {"best": best.objective, "ended": ended}
            self.children.parent.metrics(values, ended, "tune")
            self.bar.set_postfix_str(f"best {self.objective} {best.objective:.1%}")
        self.bar.update()
        self.say(f"{ended}/{self.total}  {line_of(trial, self.objective)}")
        rmtree(home_of(self.children.folder, number) / "checkpoints", ignore_errors=True)


def line_of(trial: Trial, objective: str) -> str:
    """What a trial came to, in a line."""
    setting = " ".join(trial.overrides)
    if trial.state == "failed":
        return f"trial {trial.number} failed: {trial.reason}  {setting}"
    how = "stopped early" if trial.state == "stopped" else "finished"
    where = f"epoch {trial.best_epoch} of {trial.epochs}, {how}"
    return f"trial {trial.number}: {objective} {trial.objective:.1%} ({where})  {setting}"
