"""A search: Ray Tune runs trials of settings that Optuna suggests, ASHA ends the worse ones early.

The objective is measured on classes held out of training, never on the test classes. What a search
has done is in its record; the same call goes on from there.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from shutil import rmtree
from typing import Any

from tqdm import tqdm

from rhs.config.compose import compose
from rhs.config.settings import Params
from rhs.data.shards import has_split, load_manifest
from rhs.distributed.mailbox import Mailbox
from rhs.distributed.ray_cluster import connect
from rhs.distributed.supervisor import deferred_signals, supervise
from rhs.errors import UserError
from rhs.run import code_digest, identify
from rhs.tracking.tracker import NullTracker, environment
from rhs.tuning.search_space import check_paths
from rhs.tuning.settings import TuneSettings
from rhs.tuning.trial import trial_params, tune_trainable
from rhs.tuning.trial_log import TrialLog

# Tune would write tables of its own, and insist on an objective where a trial was refused.
ENVIRONMENT = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": "60",  # for a stopped trial to leave its process
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # the old one can be silent
    "MLFLOW_RUN_CONTEXT": None,  # set for the trials' runs
}


class AllFailed(UserError):
    """No trial of a search can win."""


@dataclass(frozen=True)
class SearchResult:
    """What a search has found.

    Attributes:
        overrides: of the best setting, beside the shared ones.
        value: of the objective, at the best epoch of the best trial.
        number: of that trial.
        trials: see rhs.tuning.trial_log.Trial.told.
        folder: that keeps the record.
    """

    overrides: list[str]
    value: float
    number: int
    trials: list[dict] = field(repr=False)
    folder: Path


def search(
    base: list[str],
    settings: TuneSettings,
    shards: Path,
    folder: Path,
    tracker: NullTracker | None = None,
    say: Callable[[str], None] = tqdm.write,
) -> SearchResult:
    """Try `settings.trials` settings; the same call continues, or returns at once what was found.

    The winner is the trial with the highest value of the objective at any of its epochs.

    Args:
        base: Hydra overrides that all trials share.
        folder: gets a folder named after what the search depends on: settings, parameters, data
            and code; so that results of another search never count. The caller holds it, see
            `rhs.storage.lease`.
        tracker: of the search's own MLflow run; each trial gets one beneath it.
        say: takes a line a trial.

    Raises:
        UserError: settings that cannot work, no held-out classes, or no more space on the disk.
        AllFailed: all trials failed.
        Interrupted: a signal asked this process to end.
    """
    home = search_folder(base, settings, shards, folder)
    params = compose(base)
    check_paths(settings.dimensions, base)
    if params.cluster.storage is not None:
        raise UserError(
            f"cluster.storage is {params.cluster.storage!r}; a search works in the project's own "
            "folder, which every node must see: it takes null."
        )
    record = TrialLog(home / "trials.jsonl")
    if record.lacks(settings.trials):
        _Search(base, settings, shards, home, tracker or NullTracker(), say).run(record)
    return found_in(record, settings, home)


def search_folder(base: list[str], settings: TuneSettings, shards: Path, folder: Path) -> Path:
    """The folder that keeps a search, named after everything that its result depends on.

    Raises:
        UserError: no shards, or none of held-out classes.
    """
    manifest = load_manifest(shards)
    if not has_split(shards, "val"):
        raise UserError(
            f"{shards} has no held-out classes to compare settings on: preprocess with "
            "dataset.validation above 0, for instance 0.1."
        )
    what = {
        "base": identify(compose(base), manifest["digest"]).name,
        "objective": settings.objective,
        "space": settings.space,
        "scheduler": settings.scheduler,
        "seed": settings.seed,
        "random": settings.random,
        "searching": code_digest(("tuning",)),
    }
    text = json.dumps(what, sort_keys=True, default=str)
    return folder / hashlib.sha256(text.encode()).hexdigest()[:8]


@dataclass(frozen=True)
class _Search:
    base: list[str]
    settings: TuneSettings
    shards: Path
    home: Path
    tracker: NullTracker
    say: Callable[[str], None]

    def run(self, record: TrialLog) -> None:
        """The trials that the record lacks."""
        import ray

        from rhs.tuning.callback import TrialCallback, TrialRuns
        from rhs.tuning.searcher import make_scheduler, make_searcher

        params = compose([*self.base, f"cluster.num_workers={self.settings.workers}"])
        connect(params.cluster)
        with environment(ENVIRONMENT), deferred_signals() as signals:
            manifest = load_manifest(self.shards)
            children = TrialRuns(self.tracker, self.home.name, self.home, manifest)
            objective, trials = self.settings.objective, self.settings.trials
            watch = TrialCallback(record, children, objective, trials, signals, self.say)
            # Tune keeps a copy of what it is given: nothing in here may be of this process alone.
            told = partial(_told, self.base, self.settings.workers)
            searcher = make_searcher(self.settings, record, params, told)
            scheduler = make_scheduler(self.settings, record, self._most_epochs(params))
            room = concurrent(self.settings, params, ray.cluster_resources())
            tuner = self._tuner(params, searcher, scheduler, watch, room, trials, record)
            mailbox = Mailbox()
            mailbox.put("training", None)  # a signal is heeded by `watch`, which ends Tune's loop
            try:
                supervise(tuner.fit, mailbox, {}, signals, params.cluster.grace_seconds)
            finally:
                watch.bar.close()
                children.interrupt()
        rmtree(self.home / "ray", ignore_errors=True)
        for leftover in self.home.glob("trials/*/checkpoints"):  # written by a trial on its way out
            rmtree(leftover, ignore_errors=True)

    def _tuner(
        self,
        params: Params,
        searcher: Any,
        scheduler: Any,
        watch: Any,
        room: int,
        trials: int,
        record: TrialLog,
    ) -> Any:
        from ray import tune

        rmtree(self.home / "ray", ignore_errors=True)  # of an earlier try: the record has it all
        shards, home = self.shards.resolve(), self.home.resolve()
        known = {"column": self.settings.column, "digest": load_manifest(shards)["digest"]}
        trainable = partial(tune_trainable, shards=shards, home=home, **known)
        alone_in_process = self.settings.workers == 1
        # Beside its workers a trial only waits: it takes none of their processors.
        each: dict[str, float] = {"memory": 2**28}
        if alone_in_process:
            each = dict(params.cluster.resources_per_worker)
        return tune.Tuner(
            tune.with_resources(trainable, tune.PlacementGroupFactory([each])),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=scheduler,
                num_samples=record.lacks(trials),
                max_concurrent_trials=room,
                # A process with Ray Train's workers would keep those of a stopped trial; and one
                # that has met an error of CUDA is of no more use.
                reuse_actors=alone_in_process and not params.cluster.use_gpu,
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(home / "ray"),
                callbacks=[watch],
                failure_config=tune.FailureConfig(max_failures=params.cluster.max_failures),
                verbose=0,
            ),
        )

    def _most_epochs(self, params: Params) -> int:
        """The most that any trial may train."""
        most: list[Any] = [params.train.epochs]
        for dimension in self.settings.dimensions:
            if dimension.path == "train.epochs":
                most += dimension.choices or [dimension.high]
        return int(max(most))


def _told(base: list[str], workers: int, overrides: list[str]) -> dict:
    """What a trial is told. A setting that cannot be composed is one that failed."""
    try:
        return {"params": trial_params([*base, *overrides], workers)}
    except UserError as error:
        return {"params": trial_params(base, workers), "refusal": str(error)}


def concurrent(settings: TuneSettings, params: Params, resources: dict[str, float]) -> int:
    """How many trials the cluster has room for at once, or fewer where they are asked for."""
    room = min(
        int(resources.get(kind, 0) // (settings.workers * each))
        for kind, each in params.cluster.resources_per_worker.items()
        if each
    )
    return max(1, min(room, settings.concurrent or room, settings.trials))


def found_in(record: TrialLog, settings: TuneSettings, home: Path) -> SearchResult:
    """What a search came to. Raises AllFailed if none of its trials can win."""
    trials = record.trials[: settings.trials]
    counting = [trial for trial in trials if trial.counts]
    if not counting:
        raise AllFailed(
            f"All {len(trials)} trials failed, the first because: {trials[0].reason} "
            f"{home} has the rest; delete it to try again."
        )
    best = max(counting, key=lambda trial: trial.objective or 0.0)
    assert best.objective is not None
    told = [trial.as_row() for trial in trials]
    return SearchResult(best.overrides, best.objective, best.number, told, home)
