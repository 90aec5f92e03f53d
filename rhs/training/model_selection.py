"""Which checkpoint of a finished run becomes its model: the last one, or the best."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError

from rhs.config.settings import Params
from rhs.data.open_images import input_threads, open_images
from rhs.errors import UserError
from rhs.models.embedder import Embedder, Head, build_embedder
from rhs.storage.store import Store
from rhs.training import checkpoint
from rhs.training.checkpointer import BEST, best_step
from rhs.training.components import features_of, is_frozen
from rhs.training.validation import embed


@dataclass(frozen=True)
class Selected:
    """A model out of a run.

    Attributes:
        which: "last", or of BEST: the highest score on the held-out classes, the first of equals.
        epoch, step: after which it was saved.
        history: a row for each epoch of the run.
    """

    embedder: Embedder
    which: str
    epoch: int
    step: int
    history: list[dict]


def load_selected(params: Params, store: Store, which: str) -> Selected:
    """The model of a finished run, on the processor and in evaluation mode.

    Args:
        params: of the run.
        store: of its checkpoints.
        which: "last", or of BEST.

    Raises:
        UserError: that checkpoint cannot be read, or there are no held-out classes to choose by.
    """
    newest = checkpoint.load_latest(store)
    assert newest is not None, f"{store.location} holds no checkpoint after training"
    tensors, state = newest
    if state["epochs_done"] < params.train.epochs:
        raise UserError(
            f"The last checkpoint in {store.location} was damaged after training: run the same "
            "command again."
        )
    history = state["history"]
    row = history[-1]
    if which in BEST:
        row = _best_row(history, which)
        if row is not history[-1]:
            tensors = _read(store, row)
    embedder = build_embedder(asdict(params.model), params.seed)
    trained = Head(embedder) if is_frozen(params) else embedder
    trained.load_state_dict(checkpoint.with_prefix("model.", tensors))
    return Selected(embedder.eval(), which, row["epoch"], row["step"], history)


def embed_split(
    params: Params, shards: Path, split: str, embedder: Embedder, device: torch.device
) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings [N, D] and labels [N] of a split; of a frozen trunk by its kept features.

    Args:
        params: of the run that trained `embedder`.
    """
    embedder.to(device)
    threads = input_threads(params.cluster)
    if is_frozen(params):
        features = features_of(params, shards, split, embedder, device)
        return embed(Head(embedder), features, device, threads), features.labels
    images = open_images(shards, split, params.cluster)
    return embed(embedder, images, device, threads), images.labels


def _best_row(history: list[dict], which: str) -> dict:
    step = best_step(history, BEST[which])
    if step is None:
        raise UserError(
            f"train.select={which} needs held-out classes, and the run had none: choose "
            "train.select=last."
        )
    return next(row for row in history if row["step"] == step)


def _read(store: Store, row: dict) -> dict[str, torch.Tensor]:
    try:
        return checkpoint.load(store, row["step"])[0]
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise UserError(
            f"The checkpoint of epoch {row['epoch']}, the best on the held-out classes, cannot be "
            f"read in {store.location} ({error}): choose train.select=last, or delete the run's "
            "checkpoints and train again."
        ) from error
