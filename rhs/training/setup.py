"""From parameters to the parts of a training run, and whether they can work."""

from pathlib import Path

import numpy as np

from rhs.build import build
from rhs.data.labels import training_labels, values_of
from rhs.data.plan import BatchPlan
from rhs.data.shards import ShardedImages
from rhs.data.transforms import Augmentation
from rhs.errors import UserError
from rhs.methods.objective import check_method
from rhs.models.embedder import check_model
from rhs.training.loop import Settings


def check(config: dict, shards: Path, workers: int) -> None:
    """Build everything cheap once, so that a mistake is a sentence and not a failed worker.

    Raises:
        UserError: parameters that cannot work.
    """
    labels, names = labels_of(config, ShardedImages(shards, "train"))
    plan = plan_of(config, labels)
    plan.check_workers(workers)
    settings = settings_of(config)
    total = settings.epochs * plan.steps
    if settings.warmup >= total:
        raise UserError(
            f"train.warmup is {settings.warmup} steps, but there are {total} in all: choose fewer, "
            "or a share below 1."
        )
    mining = config["method"].get("mining") or {}
    positives = mining.get("positives")
    if plan.per_class == 2 and positives in ("random", "easy"):
        print(
            "note: train.per_class is 2, so that every anchor has one positive and "
            f"mining.positives={positives} chooses nothing: take 4 or more."
        )
    check_method(config["method"], continuous=values_of(names) is not None)
    Augmentation(**config["dataset"]["augment"])
    check_model(config["model"])


def labels_of(params: dict, images: ShardedImages) -> tuple[np.ndarray, list[str]]:
    """The number of each training image's class [N], and the classes' names."""
    return training_labels(images.labels, images.class_names, params["dataset"]["coarse"])


def plan_of(params: dict, labels: np.ndarray) -> BatchPlan:
    """The method's own plan, or class-balanced batches."""
    settings = params["train"]
    batches = params["method"].get("batches") or {"_target_": "rhs.data.plan.BatchPlan"}
    sizes = {"classes": settings["classes"], "per_class": settings["per_class"]}
    return build(batches, within="rhs.data.", labels=labels, **sizes, seed=params["seed"])


def settings_of(params: dict) -> Settings:
    """What the loop needs of the parameters."""
    names = ("epochs", "lr", "warmup", "precision")
    return Settings(**{name: params["train"][name] for name in names}, seed=params["seed"])
