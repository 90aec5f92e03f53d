"""From parameters to the parts of a training run, and whether they can work."""

from pathlib import Path

from rhs.config.settings import ClusterConfig, Params
from rhs.data.batch_sampler import BalancedBatchSampler
from rhs.data.open_images import check_input
from rhs.data.shards import ShardedImages, has_split
from rhs.distributed.ray_cluster import workers_of
from rhs.errors import UserError, check_number
from rhs.methods.centers import BatchCenters, LeaveOneOutCenters
from rhs.methods.check_method import check_method
from rhs.methods.objective import Objective
from rhs.models.embedder import check_model
from rhs.training.checkpointer import BEST
from rhs.training.components import (
    augmentation_of,
    is_frozen,
    labels_of,
    plan_of,
    values_for,
)


def check(params: Params, shards: Path) -> None:
    """Build everything cheap once, so that a mistake is a sentence and not a failed worker.

    Raises:
        UserError: parameters that cannot work.
    """
    images = ShardedImages(shards, "train")
    labels, names = labels_of(params, images)
    plan = plan_of(params, labels)
    check_workers(params.cluster, plan)
    check_number("train.epochs", params.train.epochs, least=1, whole=True)
    total = params.train.epochs * plan.steps
    if params.train.warmup >= total:
        raise UserError(
            f"train.warmup is {params.train.warmup} steps, but there are {total} in all: choose "
            "fewer, or a share below 1."
        )
    augmentation_of(params)
    check_input(params.cluster)
    check_choices(params, has_split(shards, "val"))
    check_model(params.model)
    more = values_for(images, names)
    objective = check_method(params.method, len(names), params.model.dim, **more)
    if plan.adaptive and objective.signatures is None:
        raise UserError(
            "method.batches composes batches from class signatures, but method.signatures is null: "
            "choose rhs.methods.losses.normalized_softmax.NormalizedSoftmax for it."
        )
    if plan.per_class == 2:
        _tell_of_pairs(objective)


def check_workers(cluster: ClusterConfig, plan: BalancedBatchSampler) -> None:
    """Raises UserError unless the batch divides among them; among some of an elastic range."""
    least, most = workers_of(cluster.num_workers)
    if least < most:
        fitting = range(1, min(most, plan.batch_size) + 1)
        most = max(w for w in fitting if plan.batch_size % w == 0)
    plan.check_workers(most)


def check_choices(params: Params, validated: bool) -> None:
    """Raises UserError where `train.trunk` or `train.select` do not go with the rest.

    Args:
        validated: whether the data set has held-out classes.
    """
    if params.train.select in BEST and not validated:
        raise UserError(
            f"train.select={params.train.select} needs held-out classes, but the data set has "
            "none: choose train.select=last, or set dataset.validation and preprocess again."
        )
    if is_frozen(params) and params.cluster.input == "ray":
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
