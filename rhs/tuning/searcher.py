"""Optuna and ASHA for Ray Tune, made anew from what a search has done.

Tune's own restoring takes up what was saved some seconds before the end, and no scheduler. Here
both are rebuilt from the record: every epoch that was told counts, whenever the search was killed.
"""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
from optuna.samplers import TPESampler
from optuna.storages import InMemoryStorage
from optuna.trial import FixedTrial, TrialState, create_trial
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search.optuna import OptunaSearch

from rhs.config.settings import Params
from rhs.tuning.search_space import defaults, label, overrides_of, suggest_values
from rhs.tuning.settings import TuneSettings
from rhs.tuning.trial_log import TrialLog

METRIC, REFUSAL = "objective", "refusal"  # what a trial tells
HALTS = "halts"  # whether a refusal is no fault of the setting: every trial would meet it
STUDY = "search"


class Searcher(OptunaSearch):
    """Optuna's suggestions; a trial that was refused is a failed one."""

    def on_trial_result(self, trial_id: str, result: dict) -> None:
        if REFUSAL not in result:
            super().on_trial_result(trial_id, result)

    def on_trial_complete(
        self, trial_id: str, result: dict | None = None, error: bool = False
    ) -> None:
        if result is None or REFUSAL in result:
            super().on_trial_complete(trial_id, None, error=True)
        else:
            super().on_trial_complete(trial_id, result, error)

    def save(self, checkpoint_path: str) -> None:
        """An empty file, where Tune wants one: the record has it all."""
        Path(checkpoint_path).touch()


def make_searcher(
    settings: TuneSettings,
    record: TrialLog,
    base: Params,
    config_of: Callable[[list[str]], dict],
) -> Searcher:
    """Suggests, in this order: trials that were interrupted, the shared parameters' own setting,
    some at random (a third of all, ten at most), then what TPE takes to be promising.

    Args:
        base: the parameters that all trials share.
        config_of: what a trial is told, from its overrides.
    """
    space = settings.dimensions
    # Another seed for the rest of a search: the same would suggest again what it has suggested.
    sampler = TPESampler(
        seed=settings.seed + 1_000_003 * len(record.trials),
        n_startup_trials=settings.random,
    )
    storage = InMemoryStorage()
    study = optuna_study(settings, record, base, storage)
    if not record.trials and (own := defaults(space, base)):
        study.enqueue_trial(own)

    def suggest(trial: Any) -> dict[str, Any]:
        values = suggest_values(space, trial, base)
        overrides = overrides_of(values)
        known = {path: label(value) for path, value in values.items()}
        record.begin(trial.number, known, overrides)
        return {"number": trial.number, **config_of(overrides)}

    return Searcher(
        suggest, metric=METRIC, mode="max", sampler=sampler, storage=storage, study_name=STUDY
    )


def optuna_study(
    settings: TuneSettings,
    record: TrialLog,
    base: Params,
    storage: InMemoryStorage | None = None,
) -> optuna.Study:
    """What Optuna knows after the trials of a record; the interrupted ones wait."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(storage=storage, study_name=STUDY, direction="maximize")
    for trial in record.trials:
        if trial.state == "unfinished":
            study.enqueue_trial(trial.values)
            continue
        fixed = FixedTrial(trial.values)
        suggest_values(settings.dimensions, fixed, base)
        study.add_trial(
            create_trial(
                state=TrialState.COMPLETE if trial.counts else TrialState.FAIL,
                value=trial.objective if trial.counts else None,
                params=fixed.params,
                distributions=fixed.distributions,
                intermediate_values=trial.curve,
            )
        )
    return study


def make_scheduler(settings: TuneSettings, record: TrialLog, epochs: int) -> TrialScheduler:
    """ASHA, which knows the trials that have ended; interrupted ones tell it again themselves.

    Args:
        epochs: the most that a trial trains.
    """
    if settings.scheduler is None or settings.scheduler["grace"] >= epochs:
        return FIFOScheduler()
    scheduler = ASHAScheduler(
        time_attr="epoch",
        metric=METRIC,
        mode="max",
        max_t=epochs,
        grace_period=settings.scheduler["grace"],
        reduction_factor=settings.scheduler["reduction"],
    )
    for trial in record.ended:
        known: Any = SimpleNamespace(trial_id=f"before-{trial.number}")
        scheduler.on_trial_add(None, known)  # type: ignore[arg-type]
        best = float("-inf")
        for epoch, value in sorted(trial.curve.items()):
            best = max(best, value)
            result = {"epoch": epoch, METRIC: best}
            scheduler.on_trial_result(None, known, result)  # type: ignore[arg-type]
    return scheduler
