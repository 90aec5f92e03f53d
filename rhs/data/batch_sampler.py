"""Which images make up which batch: a pure function of (seed, epoch, step).

The plan speaks of the global batch, so it is the same for every number of workers, and nothing but
the three numbers is needed to continue it.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from rhs.errors import UserError, check_number


@dataclass(frozen=True)
class BatchIndices:
    """The images of one batch, B of them.

    Attributes:
        index: [B] row of each image in the training split.
        repeat: [B] how often that image has been drawn before in this epoch; it tells repeated
            draws of one image apart, so that their augmentation differs.
    """

    index: np.ndarray
    repeat: np.ndarray

    def local(self, rank: int, world_size: int) -> "BatchIndices":
        """This rank's contiguous share."""
        share = len(self.index) // world_size
        mine = slice(rank * share, (rank + 1) * share)
        return BatchIndices(self.index[mine], self.repeat[mine])


class BalancedBatchSampler:
    """Class-balanced batches: `classes` distinct classes, `per_class` images of each.

    An epoch deals out every image of every class with two or more images at least once, in groups
    of `per_class`. A last group that is short is filled up with images of its class drawn again,
    and the last batches with further groups of the least-drawn classes. A class with one image is
    never drawn: it has no positive.

    One exception keeps an epoch of very uneven classes short: as a class is at most once in a
    batch, a class gets at most as many groups as there are batches; its other images come in other
    epochs. `left_out` counts them.

    Args:
        labels: [N] class of each training image.
        classes, per_class: K and M; a batch has B = K M images, in K runs of M.
        seed: of the whole run.

    Raises:
        UserError: more classes asked for than there are, or fewer than two classes or images each;
            a negative seed.
    """

    adaptive = False  # whether `plan_epoch` wants the training set's embeddings before each epoch

    def __init__(self, labels: np.ndarray, classes: int, per_class: int, seed: int):
        for name, value in (("train.classes", classes), ("train.per_class", per_class)):
            check_number(name, value, least=1, whole=True)
        check_number("seed", seed, most=10**12, whole=True)
        if per_class < 2:
            raise UserError(f"train.per_class is {per_class}; a class needs 2 images or more.")
        if seed < 0:
            raise UserError(f"seed is {seed}; it must be 0 or more.")
        _, counts = np.unique(labels, return_counts=True)
        usable = int((counts > 1).sum())
        if not 2 <= classes <= usable:
            raise UserError(
                f"train.classes is {classes}; it must be between 2 and {usable}, the number of "
                "training classes with two or more images."
            )
        self.labels, self.classes, self.per_class, self.seed = labels, classes, per_class, seed
        by_class = np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])
        self._members = [rows for rows, count in zip(by_class, counts, strict=True) if count > 1]
        groups = np.array([-(-len(rows) // per_class) for rows in self._members])
        self.steps = -(-int(groups.sum()) // classes)
        self._groups = np.minimum(groups, self.steps)
        self.steps = -(-int(self._groups.sum()) // classes)
        self._groups = np.minimum(self._groups, self.steps)

    @property
    def batch_size(self) -> int:
        return self.classes * self.per_class

    @property
    def left_out(self) -> int:
        """Images that one epoch cannot hold, see above."""
        sizes = np.array([len(rows) for rows in self._members])
        return int(np.maximum(sizes - self._groups * self.per_class, 0).sum())

    def batch(self, epoch: int, step: int) -> BatchIndices:
        """Batch `step`, 0 to `steps` - 1, of `epoch`."""
        image, draw = self._epoch(epoch)
        return BatchIndices(image[step], draw[step])

    def check_workers(self, workers: int) -> None:
        """Raises UserError unless the batch divides evenly among the workers."""
        if workers < 1:
            raise UserError(f"cluster.num_workers is {workers}; at least one is needed.")
        if self.batch_size % workers:
            fitting = [
                w for w in range(1, min(workers, self.batch_size + 1)) if self.batch_size % w == 0
            ]
            raise UserError(
                f"A batch of {self.classes} classes x {self.per_class} images ({self.batch_size}) "
                f"does not divide among cluster.num_workers = {workers}; "
                f"{fitting[-1]} workers would fit, or a batch that is a multiple of {workers}."
            )

    @lru_cache(maxsize=2)  # noqa: B019  (one plan per process, and it lives as long)
    def _epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Images and draws [steps, B] of an epoch."""
        random = np.random.default_rng([self.seed, epoch])
        class_at = self._class_schedule(random)
        image = np.empty((self.steps, self.classes, self.per_class), dtype=np.int64)
        draw = np.empty_like(image)
        groups = np.bincount(class_at.ravel(), minlength=len(self._members))
        places = np.split(np.argsort(class_at.ravel(), kind="stable"), np.cumsum(groups)[:-1])
        flat_image, flat_draw = image.reshape(-1, self.per_class), draw.reshape(-1, self.per_class)
        for rows, where in zip(self._members, places, strict=True):
            position = np.arange(len(where) * self.per_class)
            dealt = random.permutation(rows)[position % len(rows)]
            flat_image[where] = dealt.reshape(-1, self.per_class)
            flat_draw[where] = (position // len(rows)).reshape(-1, self.per_class)
        order = random.permutation(self.steps)
        return image[order].reshape(self.steps, -1), draw[order].reshape(self.steps, -1)

    def _class_schedule(self, random: np.random.Generator) -> np.ndarray:
        """Class of each group [steps, K], distinct in each row.

        Each step takes the K classes with most groups left, ties at random: that order never ends
        up with groups of too few classes.
        """
        left = self._groups.astype(float)
        schedule = np.empty((self.steps, self.classes), dtype=np.int64)
        for step in range(self.steps):
            priority = left + random.random(len(left))
            schedule[step] = np.argpartition(-priority, self.classes - 1)[: self.classes]
            left[schedule[step]] -= 1
        return schedule
