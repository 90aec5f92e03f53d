"""From a run's checkpoint to the model folder that everything later reads."""

import csv
from dataclasses import asdict
from pathlib import Path

from rhs.config.settings import Params
from rhs.models.embedder import save_embedder
from rhs.run import Run
from rhs.storage.atomic import atomic_folder
from rhs.storage.outputs import MODEL
from rhs.storage.store import open_store
from rhs.training.model_selection import load_selected

HISTORY = "history.csv"


def export(params: Params, run: Run, out: Path) -> None:
    """Write the trained model, its configuration and the history of its training.

    The model is that of the last epoch, or of the best, as `train.select` says; the configuration
    names the epoch.
    """
    chosen = load_selected(params, open_store(run.checkpoints), params.train.select)
    taken = {"select": chosen.which, "epoch": chosen.epoch, "step": chosen.step}
    config = asdict(params.model) | {"run": run.name, "checkpoint": taken}
    short_side, quality = params.preprocess.short_side, params.preprocess.quality
    preprocess = {"short_side": short_side, "quality": quality}
    with atomic_folder(out, MODEL) as folder:
        save_embedder(folder, chosen.embedder, config | {"preprocess": preprocess})
        write_history(folder / HISTORY, chosen.history)


def write_history(path: Path, history: list[dict]) -> None:
    """One row an epoch; columns in the order in which they first appear."""
    columns = list(dict.fromkeys(column for row in history for column in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(history)
