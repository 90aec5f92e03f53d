"""One run of a search or a study: a setting trained, its epochs told, its history returned."""

import errno
import os
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf

from rhs.cluster import workers_of
from rhs.errors import UserError
from rhs.run import Run, project
from rhs.stage import compose, explain, plain
from rhs.storage.store import open_store
from rhs.tracking.tracker import NullTracker
from rhs.training import checkpoint, journal
from rhs.training.setup import check
from rhs.training.worker import fit, work

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def trial_params(overrides: list[str], workers: int = 1) -> dict:
    """The parameters of a trial, fit to be sent to another process.

    Args:
        overrides: Hydra's, on top of `conf/`.
        workers: of data-parallel training; the result does not depend on them.

    Raises:
        UserError: an override names something that does not exist.
    """
    params = plain(compose([*overrides, f"cluster.num_workers={workers}"]))
    # Processes of Ray work in another folder than this one.
    cache = project() / params["cluster"]["decoded_folder"]
    params["cluster"]["decoded_folder"] = str(cache)
    return params


def run_trial(
    params: dict,
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
        rhs.training.keeper.Stopped: `stopping` said so, and what was done is saved.
    """
    check(params, shards)
    for row in history_of(folder):
        report(row)
    if workers_of(params["cluster"])[1] > 1:
        _with_ray_train(params, shards, folder, report)
        return history_of(folder)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 1)))
    device = torch.device("cuda" if params["cluster"]["use_gpu"] else "cpu")
    _, progress = work(
        params, shards, open_store(folder / "checkpoints"), device, report,
        say or partial(_note, folder / "log.txt"), stopping=stopping,
    )  # fmt: skip
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
    params: dict, shards: Path, folder: Path, report: Callable[[dict], None]
) -> None:
    run = Run(folder.name, folder.resolve())
    config = OmegaConf.create(params)
    assert isinstance(config, DictConfig)
    fit(config, shards, run, _Reporter(report))


def _note(file: Path, line: str) -> None:
    journal.append(file, f"{time.strftime('%H:%M:%S')}  {line}")


def home_of(folder: Path, number: int) -> Path:
    """Where a trial of a search keeps its checkpoints and its log."""
    return folder / "trials" / f"{number:03d}"


def told_to_tune(config: dict, shards: Path, home: Path, column: str) -> None:
    """One trial, in a process of Ray Tune's: what it comes to is told there, errors too.

    Args:
        config: its `number` and its `params`, or a `refusal`.
        home: of the search.
        column: of an epoch's numbers, the one that the objective is.
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
        run_trial(config["params"], shards, folder, report)
    except Exception as error:  # whatever it is, it does not stop the search
        with suppress(OSError):  # where the disk is full, that is told below
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "failure.txt").write_text(traceback.format_exc())
        first = (str(error).splitlines() or [""])[0]
        refusal = explain(error) or f"{type(error).__name__}: {first}"
        tune.report({"refusal": refusal, "halts": _is_of_the_disk(error)})


def _is_of_the_disk(error: BaseException | None) -> bool:
    """Whether it is full, or nothing can be written there."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL:
            return True
        error = error.__cause__
    return False
