"""From a run's last checkpoint to the model folder that everything later reads."""

import csv
from pathlib import Path

from omegaconf import DictConfig

from rhs.errors import UserError
from rhs.models.embedder import build_embedder, save_embedder
from rhs.run import Run
from rhs.stage import plain
from rhs.storage.atomic import whole_folder
from rhs.storage.store import open_store
from rhs.training import checkpoint

HISTORY = "history.csv"


def export(params: DictConfig, run: Run, out: Path) -> None:
    """Write the trained model, its configuration and the history of its training."""
    found = checkpoint.load_latest(open_store(run.checkpoints))
    assert found is not None, f"{run.checkpoints} holds no checkpoint after training"
    tensors, state = found
    if state["epochs_done"] < params.train.epochs:
        raise UserError(
            f"The last checkpoint in {run.checkpoints} was damaged after training: run the same "
            "command again."
        )
    config = plain(params.model)
    embedder = build_embedder(config)
    embedder.load_state_dict(checkpoint.under("model.", tensors))
    preprocess = {key: params.preprocess[key] for key in ("short_side", "quality")}
    with whole_folder(out) as folder:
        save_embedder(folder, embedder, config | {"preprocess": preprocess, "run": run.name})
        write_history(folder / HISTORY, state["history"])


def write_history(path: Path, history: list[dict]) -> None:
    """One row an epoch; columns in the order in which they first appear."""
    columns = list(dict.fromkeys(column for row in history for column in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(history)
