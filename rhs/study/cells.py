"""A cell of a study: one method on one data set with one seed, trained and scored.

cells/<run>.json    what came of it; `run` names the parameters, the data and the code
cells/<run>/        its checkpoints while it runs, and its log
"""

import json
import shlex
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from shutil import rmtree

import torch

from rhs.config.quoting import readable
from rhs.config.settings import Params
from rhs.data.shards import ShardedImages, load_manifest
from rhs.errors import UserError
from rhs.memory import keep_freed_memory
from rhs.metrics.retrieval import score
from rhs.models.embedder import Embedder, build_embedder
from rhs.run import identify
from rhs.storage.store import FolderStore, open_store
from rhs.tracking.hardware import describe_hardware
from rhs.training.checkpointer import BEST
from rhs.training.model_selection import embed_split, load_selected
from rhs.tuning.trial import (
    check_unchanged,
    one_line,
    run_trial,
    trial_params,
    write_traceback,
)

WHICH = ("chosen", "last")  # epochs that a study tells of; which is chosen its objective says
SCORED = ("last", *BEST)  # those that are scored, as `train.select` calls them
METRICS = ("recall@1", "map@r")
UNTRAINED = "untrained"  # the method of cells that only score the model as it starts


@dataclass(frozen=True)
class Cell:
    """One method on one data set with one seed.

    Attributes:
        data, method: labels.
        overrides: Hydra's, all that the run is made from.
        params: the same, composed.
        digest: of the shards.
        run: its name, that of the run that `command` makes.
    """

    data: str
    method: str
    seed: int
    overrides: list[str]
    shards: Path
    digest: str
    run: str
    params: Params = field(repr=False)

    @property
    def name(self) -> str:
        return f"{self.data} {self.method} seed {self.seed}"

    @property
    def command(self) -> str:
        """Trains and scores this cell alone; evaluate scores the untrained model beside any."""
        if self.method == UNTRAINED:
            return ""
        given = [part for override in self.overrides for part in ("-S", readable(override))]
        return shlex.join(["dvc", "exp", "run", *given])


def make_cell(data: str, method: str, seed: int, overrides: Sequence[str], shards: Path) -> Cell:
    """The cell of these overrides.

    Raises:
        UserError: an override names something that does not exist.
    """
    whole = [*(each for each in overrides if not each.startswith("seed=")), f"seed={seed}"]
    params = trial_params(whole)
    digest = load_manifest(shards)["digest"]
    run = identify(params, digest).name
    return Cell(data, method, seed, whole, shards, digest, run, params)


class Cells:
    """The finished cells in a folder, by the name of their run.

    Args:
        folder: of the study's cells.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def read(self, cell: Cell) -> dict | None:
        """What came of a cell; None: it is not finished, or failed and is to be tried again."""
        file = self.folder / f"{cell.run}.json"
        if not file.exists():
            return None
        result = json.loads(file.read_text(encoding="utf-8"))
        return None if "failed" in result else result

    def write(self, cell: Cell, result: dict) -> None:
        """Keep what came of a cell; then its checkpoints are of no more use."""
        told = {"overrides": cell.overrides, "command": cell.command} | result
        text = json.dumps(told, indent=1)
        FolderStore(self.folder).write(f"{cell.run}.json", text.encode())
        if "failed" not in result:
            rmtree(self.home(cell) / "checkpoints", ignore_errors=True)

    def home(self, cell: Cell) -> Path:
        """Where it keeps its checkpoints and its log."""
        return self.folder / cell.run


def try_cell(params: Params, shards: Path, folder: Path, digest: str) -> dict:
    """`run_cell`, or why it failed.

    Args:
        digest: of the shards that the cell is of.

    Returns:
        What `run_cell` does, and "machine"; or {"failed": a sentence}.
    """
    keep_freed_memory()
    try:
        check_unchanged(shards, digest)
        result = run_cell(params, shards, folder)
        check_unchanged(shards, digest)
        return result | {"machine": describe_hardware()}
    except UserError as error:
        return {"failed": str(error)}
    except Exception as error:  # whatever it is, other cells go on
        write_traceback(folder)
        return {"failed": one_line(error)}


def run_cell(params: Params, shards: Path, folder: Path) -> dict:
    """Train, and score on the test classes the last epoch and the best ones on held-out classes.

    The same call continues from the checkpoints of an interrupted one.

    Args:
        params: see `rhs.tuning.trial.trial_params`; of no epochs, the untrained model is scored.
        folder: gets checkpoints and a log.

    Returns:
        "scores": by each of SCORED {"recall@1", "map@r", "epoch"}, "history": a row an epoch,
        "seconds": of this try.
    """
    start = time.monotonic()
    if params.train.epochs == 0:
        embedder = build_embedder(asdict(params.model), params.seed)
        values = score_test(params, shards, embedder) | {"epoch": 0}
        seconds = time.monotonic() - start
        return {"scores": dict.fromkeys(SCORED, values), "history": [], "seconds": seconds}
    history = run_trial(params, shards, folder, lambda row: None)
    store = open_store(folder / "checkpoints")
    scores: dict[str, dict] = {}
    by_epoch: dict[int, dict] = {}
    for which in SCORED:
        selected = load_selected(params, store, which)
        if selected.epoch not in by_epoch:
            values = score_test(params, shards, selected.embedder)
            by_epoch[selected.epoch] = values | {"epoch": selected.epoch}
        scores[which] = by_epoch[selected.epoch]
    return {"scores": scores, "history": history, "seconds": time.monotonic() - start}


def selected_scores(result: dict, select: str) -> dict:
    """What a study tells of a cell: the scores of WHICH.

    Args:
        result: of `attempt`.
        select: of BEST, the chosen epoch.
    """
    if "failed" in result:
        return result
    scores = result["scores"]
    return result | {"scores": {"chosen": scores[select], "last": scores["last"]}}


def score_test(params: Params, shards: Path, embedder: Embedder) -> dict[str, float]:
    """METRICS on the test classes, in [0, 1]."""
    device = torch.device("cuda" if params.cluster.use_gpu else "cpu")
    x_ND, labels_N = embed_split(params, shards, "test", embedder, device)
    queries_N = ShardedImages(shards, "test").queries
    values = score(x_ND, labels_N, [1], queries_N, draws=0).values
    return {metric: values[metric] for metric in METRICS}
