"""From parameters to the parts of a training run, and whether they can work."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from rhs import distributed
from rhs.build import build
from rhs.cluster import workers_of
from rhs.data.features import FeatureLoader, Features
from rhs.data.fed import FedLoader
from rhs.data.labels import training_labels, values_of
from rhs.data.loader import TrainLoader
from rhs.data.plan import BatchPlan
from rhs.data.shards import ShardedImages, has_split
from rhs.data.source import check_input, input_threads, open_images
from rhs.data.transforms import Augmentation
from rhs.errors import UserError
from rhs.methods.centers import BatchCenters, LeaveOneOutCenters
from rhs.methods.objective import Objective, check_method, takes_values
from rhs.models.embedder import check_model
from rhs.targets import check_target
from rhs.training.keeper import BEST
from rhs.training.loop import Settings

Opened = TypeVar("Opened")


def check(config: dict, shards: Path) -> None:
    """Build everything cheap once, so that a mistake is a sentence and not a failed worker.

    Args:
        config: parameters that `rhs.schema.check_params` has looked at.

    Raises:
        UserError: parameters that cannot work.
    """
    images = ShardedImages(shards, "train")
    labels, names = labels_of(config, images)
    plan = plan_of(config, labels)
    check_workers(config["cluster"], plan)
    settings = settings_of(config)
    total = settings.epochs * plan.steps
    if settings.warmup >= total:
        raise UserError(
            f"train.warmup is {settings.warmup} steps, but there are {total} in all: choose fewer, "
            "or a share below 1."
        )
    augmentation_of(config)
    check_input(config["cluster"])
    check_choices(config, has_split(shards, "val"))
    check_model(config["model"])
    more = values_for(images, names)
    objective = check_method(config["method"], len(names), config["model"]["dim"], **more)
    if plan.adaptive and objective.signatures is None:
        raise UserError(
            "method.batches composes batches from class signatures, but method.signatures is null: "
            "choose rhs.methods.losses.normalized_softmax.NormalizedSoftmax for it."
        )
    if plan.per_class == 2:
        _tell_of_pairs(objective)


def check_workers(cluster: dict, plan: BatchPlan) -> None:
    """Raises UserError unless the batch divides among them; among some of an elastic range."""
    least, most = workers_of(cluster)
    if least < most:
        fitting = range(1, min(most, plan.batch_size) + 1)
        most = max(w for w in fitting if plan.batch_size % w == 0)
    plan.check_workers(most)


def check_choices(config: dict, validated: bool) -> None:
    """Raises UserError where `train.trunk` or `train.select` do not go with the rest.

    Args:
        validated: whether the data set has held-out classes.
    """
    train = config["train"]
    if train["select"] in BEST and not validated:
        raise UserError(
            f"train.select={train['select']} needs held-out classes, but the data set has none: "
            "choose train.select=last, or set dataset.validation and preprocess again."
        )
    if is_frozen(config) and config["cluster"]["input"] == "ray":
        raise UserError(
            "train.trunk=frozen reads features from a worker's disk, and cluster.input=ray sends "
            "images: choose cluster.input=auto."
        )


def is_frozen(config: dict) -> bool:
    """Whether only the head trains, on features that are computed once."""
    return config["train"]["trunk"] == "frozen"


def _tell_of_pairs(objective: Objective) -> None:
    """Say what does nothing with two images a class."""
    positives = getattr(objective.mining, "positives", "")
    if positives in ("random", "easy"):
        print(
            "note: train.per_class is 2, so that every anchor has one positive and "
            f"mining.positives={positives} chooses nothing: take 4 or more."
        )
    if isinstance(objective.centers, (BatchCenters, LeaveOneOutCenters)):
        print(
            "note: train.per_class is 2, and about the centers "
            f"{type(objective.centers).__name__} of two images no rotation moves anything: take 3 "
            "or more."
        )


def labels_of(params: dict, images: ShardedImages) -> tuple[np.ndarray, list[str]]:
    """The number of each training image's class [N], and the classes' names."""
    coarse = params["dataset"]["coarse"]
    labels_N, names = training_labels(images.labels, images.class_names, coarse)
    if coarse is not None and len(names) < 2:
        raise UserError(
            f"dataset.coarse is {coarse!r}, which puts all training classes into one group, "
            f"{names[0]!r}; at least 2 groups are needed."
        )
    return labels_N, names


def plan_of(params: dict, labels: np.ndarray) -> BatchPlan:
    """The method's own plan, or class-balanced batches."""
    settings = params["train"]
    batches = params["method"].get("batches") or {"_target_": "rhs.data.plan.BatchPlan"}
    if not isinstance(batches, dict) or "_target_" not in batches or "_partial_" in batches:
        raise UserError(f"method.batches is {batches!r}; it must have the _target_ of a plan.")
    sizes = {"classes": settings["classes"], "per_class": settings["per_class"]}
    given = ("labels", "seed", *sizes)
    check_target("method.batches", batches, "rhs.data.", given=given)
    return build(batches, within="rhs.data.", labels=labels, **sizes, seed=params["seed"])


def augmentation_of(params: dict) -> Augmentation:
    """How training images are varied."""
    return Augmentation(**params["dataset"]["augment"])


def values_for(images: ShardedImages, names: list[str]) -> dict:
    """What `Objective.prepare` is told of continuous labels: the images', or else the classes'."""
    values = values_of(names)
    return {
        "values_CL": None if values is None else torch.from_numpy(values),
        "images_have_values": images.values is not None,
    }


def loader_of(
    params: dict,
    shards: Path,
    images: ShardedImages,
    labels: np.ndarray,
    objective: Objective,
    image_size: int,
) -> TrainLoader:
    """This rank's batches: of features, of images, or, with `cluster.input=ray`, of images that
    are decoded elsewhere in the cluster."""
    what = (images, plan_of(params, labels), augmentation_of(params), image_size)
    where = (distributed.rank(), distributed.world_size(), input_threads(params["cluster"]))
    values_NL = images.values if takes_values(objective) else None
    if isinstance(images, Features):
        return FeatureLoader(*what, *where, values_NL)
    if params["cluster"]["input"] == "ray":
        return FedLoader(shards, *what, *where, values_NL)
    return TrainLoader(*what, *where, values_NL)


def settings_of(params: dict) -> Settings:
    """What the loop needs of the parameters."""
    names = ("epochs", "lr", "warmup", "precision")
    return Settings(**{name: params["train"][name] for name in names}, seed=params["seed"])


class Elsewhere(UserError):
    """Another rank met an error that this one did not."""


def open_both(
    shards: Path, cluster: dict, device: torch.device
) -> tuple[ShardedImages, ShardedImages | None]:
    """The training and validation images, opened by every rank or by none: nodes' disks differ."""
    return by_all(lambda split: open_images(shards, split, cluster), shards, device)


def by_all(
    opened: Callable[[str], Opened], shards: Path, device: torch.device
) -> tuple[Opened, Opened | None]:
    """What `opened` makes of the training and of the validation split, on every rank or on none."""
    mine: UserError | None = None
    try:
        train = opened("train")
        val = opened("val") if has_split(shards, "val") else None
    except UserError as error:
        mine = error
    if float(distributed.all_reduce_sum(torch.tensor(float(mine is not None), device=device))):
        raise mine or Elsewhere("Another worker could not open its images.")
    return train, val
