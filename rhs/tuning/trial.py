"""One run of a search or a study: a setting trained, its epochs told, its history returned."""

import errno
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import torch

from rhs.config.compose import compose
from rhs.config.overrides import overrides_of
from rhs.config.settings import Params
from rhs.data.shards import load_manifest
from rhs.distributed.ray_cluster import workers_of
from rhs.errors import UserError
from rhs.explain import explain
from rhs.paths import project_folder
from rhs.run import Run
from rhs.storage.store import open_store
from rhs.tracking.hardware import threads
from rhs.tracking.tracker import NullTracker
from rhs.training import checkpoint, run_log
from rhs.training.driver import fit
from rhs.training.hooks import RunHooks
from rhs.training.preflight import check
from rhs.training.worker import train_rank
from rhs.tuning.search_space import Dimension

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def trial_params(overrides: list[str], workers: int = 1) -> Params:
    """The parameters of a trial, fit to be sent to another process.

    Args:
        overrides: Hydra's, on top of `conf/`.
        workers: of data-parallel training; the result does not depend on them.

    Raises:
        UserError: an override names something that does not exist.
    """
    params = compose([*overrides, f"cluster.num_workers={workers}"])
    # Processes of Ray work in another folder than this one.
    return params.with_cluster(cache_folder=str(project_folder() / params.cluster.cache_folder))


def run_trial(
    params: Params,
    shards: Path,
    folder: Path,
    report: Callable[[dict], None],
    say: Callable[[str], None] | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> list[dict]:
    """Train; the same call continues from the checkpoints of an interrupted one.

    One worker is this process itself; several go through Ray Train, as with `train`.

    Args:
        params: see `trial_params`.
        folder: gets checkpoints/ and log.txt.
        report: takes each epoch's numbers, first those of the epochs an earlier call has done.
        say: takes lines for a person to read; None: folder/log.txt takes them.
        stopping: asked after each step; of several workers it is not asked.

    Returns:
        Each epoch's numbers.

    Raises:
        UserError: parameters that cannot work, or the loss diverged.
        rhs.training.checkpointer.TrainingStopped: `stopping` said so, and what was done is saved.
    """
    check(params, shards)
    for row in history_of(folder):
        report(row)
    if workers_of(params.cluster.num_workers)[1] > 1:
        _with_ray_train(params, shards, folder, report)
        return history_of(folder)
    torch.set_num_threads(threads())
    device = torch.device("cuda" if params.cluster.use_gpu else "cpu")
    _, progress = train_rank(
        params,
        shards,
        open_store(folder / "checkpoints"),
        device,
        RunHooks(report, say or partial(_note, folder / "log.txt"), stopping=stopping),
    )
    return progress.history


def history_of(folder: Path) -> list[dict]:
    """The numbers of the epochs that a trial in `folder` has done; none without a checkpoint."""
    store = open_store(folder / "checkpoints")
    found = checkpoint.load_latest(store, lambda line: None)
    return found[1]["history"] if found else []


class _Reporter(NullTracker):
    """Passes each epoch's numbers on."""

    def __init__(self, report: Callable[[dict], None]):
        self.report = report

    def metrics(
        self, values: dict, step: int, group: str = "train", model_id: str | None = None
    ) -> None:
        self.report(values)


def _with_ray_train(
    params: Params, shards: Path, folder: Path, report: Callable[[dict], None]
) -> None:
    run = Run(folder.name, folder.resolve())
    fit(params, shards, run, _Reporter(report))


def _note(file: Path, line: str) -> None:
    run_log.append(file, f"{time.strftime('%H:%M:%S')}  {line}")


def home_of(folder: Path, number: int) -> Path:
    """Where a trial of a search keeps its checkpoints and its log."""
    return folder / "trials" / f"{number:03d}"


def check_range_ends(space: list[Dimension], base: list[str], shards: Path) -> None:
    """Raises UserError if an end of a range cannot be trained with, where all else is as in `base`.

    A choice that cannot is a trial that fails. Ranges that depend on other values of the trial, or
    that others depend on, are left to the trials too.
    """
    if _problem(base, shards):  # the space may hold what mends it
        return
    groups = {dimension.path for dimension in space if "." not in dimension.path}
    tied = groups.union(*(dimension.when for dimension in space))
    for dimension in space:
        path = dimension.path
        if dimension.choices or dimension.when or tied & {path, path.split(".")[0]}:
            continue
        for end in (dimension.low, dimension.high):
            if problem := _problem([*base, *overrides_of({path: end})], shards):
                raise UserError(f"tune.space.{path} holds {end!r}: {problem}")


def _problem(overrides: list[str], shards: Path) -> str:
    """Why these cannot be trained with; empty where they can."""
    try:
        check(trial_params(overrides), shards)
    except UserError as error:
        return str(error)
    return ""


def check_unchanged(shards: Path, digest: str) -> None:
    """Raises UserError if shards are not those that a search or a study began with."""
    if load_manifest(shards)["digest"] != digest:
        raise UserError(
            f"{shards} was made anew, with other images, while this ran: give every data set a "
            "dataset.name of its own, and start again."
        )


def tune_trainable(config: dict, shards: Path, home: Path, column: str, digest: str) -> None:
    """One trial, in a process of Ray Tune's: what it comes to is told there, errors too.

    Args:
        config: its `number` and its `params`, or a `refusal`.
        home: of the search.
        column: of an epoch's numbers, the one that the objective is.
        digest: of the shards that the search is of.
    """
    from ray import tune

    folder, best = home_of(home, config["number"]), float("-inf")

    def report(row: dict) -> None:
        nonlocal best
        best = max(best, row[column])
        # Stopping and suggesting go by the best so far, which is what decides in the end.
        tune.report({"objective": best, "value": row[column], "epoch": row["epoch"], "row": row})

    try:
        if "refusal" in config:
            raise UserError(config["refusal"])
        check_unchanged(shards, digest)
        run_trial(config["params"], shards, folder, report)
        check_unchanged(shards, digest)
    except Exception as error:  # whatever it is, it does not stop the search
        halts = _is_of_the_disk(error)
        with suppress(OSError):  # the disk may be full, which the report says
            write_traceback(folder)
        tune.report({"refusal": one_line(error), "halts": halts})


def write_traceback(folder: Path) -> None:
    """Write the exception that is being handled to folder/failure.txt, for whoever looks closer."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "failure.txt").write_text(traceback.format_exc())


def one_line(error: Exception) -> str:
    """The sentence on an error, or its type and the first line of its text."""
    first = (str(error).splitlines() or [""])[0]
    return explain(error) or f"{type(error).__name__}: {first}"


def _is_of_the_disk(error: BaseException | None) -> bool:
    """Whether it is full, or nothing can be written there."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL:
            return True
        error = error.__cause__
    return False
