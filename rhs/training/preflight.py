"""From parameters to the parts of a training run, and whether they can work."""

from pathlib import Path

from rhs.data.batch_sampler import BalancedBatchSampler
from rhs.data.open_images import check_input
from rhs.data.shards import ShardedImages, has_split
from rhs.distributed.ray_cluster import workers_of
from rhs.errors import UserError
from rhs.methods.centers import BatchCenters, LeaveOneOutCenters
from rhs.methods.objective import Objective, check_method
from rhs.models.embedder import check_model
from rhs.training.checkpointer import BEST
from rhs.training.components import (
    augmentation_of,
    is_frozen,
    labels_of,
    plan_of,
    settings_of,
    values_for,
)


def check(config: dict, shards: Path) -> None:
    """Build everything cheap once, so that a mistake is a sentence and not a failed worker.

    Args:
        config: parameters that `rhs.config.schema.check_params` has looked at.

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


def check_workers(cluster: dict, plan: BalancedBatchSampler) -> None:
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
