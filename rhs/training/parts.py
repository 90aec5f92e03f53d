"""The parts of one rank's training, as they are before the first step."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from rhs import distributed
from rhs.data.features import Features
from rhs.data.loader import TrainLoader
from rhs.data.plan import BatchPlan
from rhs.data.shards import ShardedImages
from rhs.data.source import input_threads
from rhs.methods.objective import Objective, build_objective
from rhs.models.embedder import Embedder, Head, build_embedder
from rhs.training.schedule import Optimizers, build_optimizer
from rhs.training.setup import (
    by_all,
    is_frozen,
    labels_of,
    loader_of,
    open_both,
    settings_of,
    values_for,
)


@dataclass(frozen=True)
class Parts:
    """What a rank trains, and on what.

    Attributes:
        embedder: the whole model.
        trained: what of it trains: all, or its head.
        loader: this rank's batches.
        val_images: of the held-out classes, if there are any.
    """

    embedder: Embedder
    trained: Embedder | Head
    objective: Objective
    optimizer: Optimizers
    loader: TrainLoader
    val_images: ShardedImages | None

    @property
    def kept(self) -> tuple[Embedder | Head, Objective, Optimizers]:
        """What training changes, and checkpoints hold."""
        return self.trained, self.objective, self.optimizer


def assemble(params: dict, shards: Path, device: torch.device, say: Callable[[str], None]) -> Parts:
    """Build everything; the process group, if any, is set up already.

    Args:
        say: takes lines for a person to read.

    Raises:
        UserError: the images cannot be opened, here or on another rank.
    """
    embedder = build_embedder(params["model"], params["seed"]).to(device)
    trained: Embedder | Head = embedder
    if is_frozen(params):
        say("the trunk is frozen: features are computed once, without dataset.augment")
        embedder.requires_grad_(False)
        embedder.head.requires_grad_(True)
        trained = Head(embedder)
        opened = partial(features_of, params, shards, embedder=embedder, device=device)
        images, val_images = by_all(opened, shards, device)
    else:
        images, val_images = open_both(shards, params["cluster"], device)
    labels, names = labels_of(params, images)
    torch.manual_seed(params["seed"])  # signatures start at random
    objective = build_objective(params["method"])
    objective.prepare(len(names), embedder.dim, **values_for(images, names))
    objective.to(device)
    factors = {name: params["train"][name] for name in ("weight_decay", "head_lr")}
    optimizer = build_optimizer(trained, objective, settings_of(params).lr, **factors)
    loader = loader_of(params, shards, images, labels, objective, embedder.image_size)
    return Parts(embedder, trained, objective, optimizer, loader, val_images)


def features_of(
    params: dict, shards: Path, split: str, embedder: Embedder, device: torch.device
) -> ShardedImages:
    """The features of a split's images, in `cluster.decoded_folder`."""
    cluster = params["cluster"]
    cache = Path(cluster["decoded_folder"])
    return Features(shards, split, embedder, cache, device, input_threads(cluster))


def about(plan: BatchPlan) -> Iterator[str]:
    """What a person may want to know of the batches."""
    yield (
        f"{distributed.world_size()} worker(s), {plan.steps} batches an epoch of "
        f"{plan.classes} classes x {plan.per_class} images"
    )
    if plan.left_out:
        yield f"{plan.left_out} images of the largest classes come in other epochs"


def be_deterministic(device: torch.device) -> None:
    """Let the same computation give the same bits."""
    # On a GPU some layers have no deterministic form: torch warns where it must use another.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=device.type == "cuda")
    # That also fills memory before its use, a guard that costs a fifth of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
