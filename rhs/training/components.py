"""Builds what one rank trains."""

import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from rhs.config.instantiate import build
from rhs.config.settings import ClusterConfig, Params
from rhs.config.target_checks import check_target
from rhs.data.batch_sampler import BalancedBatchSampler
from rhs.data.feature_cache import FeatureLoader, Features
from rhs.data.labels import training_labels, values_of
from rhs.data.loader import TrainLoader
from rhs.data.open_images import input_threads, open_images
from rhs.data.ray_loader import RayTrainLoader
from rhs.data.shards import ShardedImages, has_split
from rhs.data.transforms import Augmentation
from rhs.distributed import collectives
from rhs.errors import UserError
from rhs.methods.objective import Objective, build_objective, takes_values
from rhs.models.embedder import Embedder, Head, build_embedder
from rhs.training.optimization import Optimizers, build_optimizer


@dataclass(frozen=True)
class Components:
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
    def checkpointed(self) -> tuple[Embedder | Head, Objective, Optimizers]:
        """What training changes, and checkpoints hold."""
        return self.trained, self.objective, self.optimizer


def build_components(
    params: Params, shards: Path, device: torch.device, say: Callable[[str], None]
) -> Components:
    """Build everything; the process group, if any, is set up already.

    Args:
        say: takes lines for a person to read.

    Raises:
        UserError: the images cannot be opened, here or on another rank.
    """
    embedder = build_embedder(asdict(params.model), params.seed).to(device)
    trained: Embedder | Head = embedder
    if is_frozen(params):
        say("the trunk is frozen: features are computed once, without dataset.augment")
        embedder.requires_grad_(False)
        embedder.head.requires_grad_(True)
        trained = Head(embedder)
        opened = partial(features_of, params, shards, embedder=embedder, device=device)
        images, val_images = on_every_rank(opened, shards, device)
    else:
        images, val_images = open_both(shards, params.cluster, device)
    labels, names = labels_of(params, images)
    torch.manual_seed(params.seed)  # signatures start at random
    objective = build_objective(params.method)
    objective.prepare(len(names), embedder.dim, **values_for(images, names))
    objective.to(device)
    rates = params.train
    optimizer = build_optimizer(
        trained, objective, rates.lr, weight_decay=rates.weight_decay, head_lr=rates.head_lr
    )
    loader = loader_of(params, shards, images, labels, objective, embedder.image_size)
    return Components(embedder, trained, objective, optimizer, loader, val_images)


def features_of(
    params: Params, shards: Path, split: str, embedder: Embedder, device: torch.device
) -> ShardedImages:
    """The features of a split's images, in `cluster.cache_folder`."""
    cluster = params.cluster
    cache = Path(cluster.cache_folder)
    return Features(shards, split, embedder, cache, device, input_threads(cluster))


def describe_batches(plan: BalancedBatchSampler) -> Iterator[str]:
    """What a person may want to know of the batches."""
    yield (
        f"{collectives.world_size()} worker(s), {plan.steps} batches an epoch of "
        f"{plan.classes} classes x {plan.per_class} images"
    )
    if plan.left_out:
        yield f"{plan.left_out} images of the largest classes come in other epochs"


def enable_determinism(device: torch.device) -> None:
    """Let the same computation give the same bits."""
    # On a GPU some layers have no deterministic form: torch warns where it must use another.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=device.type == "cuda")
    # That also fills memory before its use, a guard that costs a fifth of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


Opened = TypeVar("Opened")


def is_frozen(params: Params) -> bool:
    """Whether only the head trains, on features that are computed once."""
    return params.train.trunk == "frozen"


def labels_of(params: Params, images: ShardedImages) -> tuple[np.ndarray, list[str]]:
    """The number of each training image's class [N], and the classes' names."""
    coarse = params.dataset.coarse
    labels_N, names = training_labels(images.labels, images.class_names, coarse)
    if coarse is not None and len(names) < 2:
        raise UserError(
            f"dataset.coarse is {coarse!r}, which puts all training classes into one group, "
            f"{names[0]!r}; at least 2 groups are needed."
        )
    return labels_N, names


def plan_of(params: Params, labels: np.ndarray) -> BalancedBatchSampler:
    """The method's own plan, or class-balanced batches."""
    batches = params.method.get("batches") or {
        "_target_": "rhs.data.batch_sampler.BalancedBatchSampler"
    }
    if not isinstance(batches, dict) or "_target_" not in batches or "_partial_" in batches:
        raise UserError(f"method.batches is {batches!r}; it must have the _target_ of a plan.")
    sizes: dict[str, Any] = {"classes": params.train.classes, "per_class": params.train.per_class}
    given = ("labels", "seed", *sizes)
    check_target("method.batches", batches, "rhs.data.", given=given)
    try:
        return build(batches, within="rhs.data.", labels=labels, **sizes, seed=params.seed)
    except UserError as error:
        own = str(error).startswith(tuple(f"{name} is" for name in sizes))
        raise UserError(f"train.{error}" if own else str(error)) from None


def augmentation_of(params: Params) -> Augmentation:
    """How training images are varied."""
    return Augmentation(**asdict(params.dataset.augment))


def values_for(images: ShardedImages, names: list[str]) -> dict:
    """What `Objective.prepare` is told of continuous labels: the images', or else the classes'."""
    values = values_of(names)
    return {
        "values_CL": None if values is None else torch.from_numpy(values),
        "images_have_values": images.values is not None,
    }


def loader_of(
    params: Params,
    shards: Path,
    images: ShardedImages,
    labels: np.ndarray,
    objective: Objective,
    image_size: int,
) -> TrainLoader:
    """This rank's batches: of features, of images, or, with `cluster.input=ray`, of images that
    are decoded elsewhere in the cluster."""
    what = (images, plan_of(params, labels), augmentation_of(params), image_size)
    where = (collectives.rank(), collectives.world_size())
    values_NL = images.values if takes_values(objective) else None
    threads = input_threads(params.cluster)
    if isinstance(images, Features):
        return FeatureLoader(*what, *where, threads=threads, values_NL=values_NL)
    if params.cluster.input == "ray":
        return RayTrainLoader(shards, *what, *where, threads=threads, values_NL=values_NL)
    return TrainLoader(*what, *where, threads=threads, values_NL=values_NL)


class FailedOnAnotherRank(UserError):
    """Another rank met an error that this one did not."""


def open_both(
    shards: Path, cluster: ClusterConfig, device: torch.device
) -> tuple[ShardedImages, ShardedImages | None]:
    """The training and validation images, opened by every rank or by none: nodes' disks differ."""
    return on_every_rank(lambda split: open_images(shards, split, cluster), shards, device)


def on_every_rank(
    opened: Callable[[str], Opened], shards: Path, device: torch.device
) -> tuple[Opened, Opened | None]:
    """What `opened` makes of the training and of the validation split, on every rank or on none."""
    mine: UserError | None = None
    try:
        train = opened("train")
        val = opened("val") if has_split(shards, "val") else None
    except UserError as error:
        mine = error
    if float(collectives.all_reduce_sum(torch.tensor(float(mine is not None), device=device))):
        raise mine or FailedOnAnotherRank("Another worker could not open its images.")
    return train, val
