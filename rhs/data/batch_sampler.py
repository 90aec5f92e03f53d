"""Which images make up which batch: a pure function of (seed, epoch, step).

The plan speaks of the global batch, so it is the same for every number of workers, and nothing but
the three numbers is needed to continue it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch.utils.data import Sampler

from rhs.distributed import collectives
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


class BalancedBatchSampler(Sampler[list[int]]):
    """Class-balanced batches: `classes` distinct classes, `per_class` images of each.

    A batch sampler for any `torch.utils.data.DataLoader`, distributed or not: each rank is given
    its share of the same global batches, whatever the number of ranks.

        sampler = BalancedBatchSampler(labels, classes=32, per_class=4, seed=0)
        loader = DataLoader(dataset, batch_sampler=sampler, num_workers=4)

    Each pass over it is another epoch: the next one, or the one that `set_epoch` names.
    `state_dict` holds the place within an epoch; a `torchdata.stateful_dataloader` keeps it with
    its own state. (A plain DataLoader with workers fetches ahead: there the sampler's state is that
    of the fetched batches, and `load_state_dict` wants the steps that were trained.)

    An epoch deals out every image of every class with two or more images at least once, in groups
    of `per_class`. A last group that is short is filled up with images of its class drawn again,
    and the last batches with further groups of the least-drawn classes. A class with one image is
    never drawn: it has no positive.

    One exception keeps an epoch of very uneven classes short: as a class is at most once in a
    batch, a class gets at most as many groups as there are batches; its other images come in other
    epochs. `left_out` counts them.

    Args:
        labels: [N] class of each training image, whole numbers.
        classes: K; a global batch has B = K M images, in K runs of M.
        per_class: M, images of each class.
        seed: of the whole run, the same on every rank.

    Raises:
        UserError: more classes asked for than there are, or fewer than two classes or images each;
            a negative seed.
    """

    adaptive = False  # whether `plan_epoch` wants the training set's embeddings before each epoch

    def __init__(
        self,
        labels: Sequence[int] | np.ndarray | torch.Tensor,
        classes: int,
        per_class: int,
        seed: int = 0,
    ):
        for name, value in (("classes", classes), ("per_class", per_class)):
            check_number(name, value, least=1, whole=True)
        check_number("seed", seed, most=10**12, whole=True)
        if per_class < 2:
            raise UserError(f"per_class is {per_class}; a class needs 2 images or more.")
        if seed < 0:
            raise UserError(f"seed is {seed}; it must be 0 or more.")
        labels = _as_labels(labels)
        _, counts = np.unique(labels, return_counts=True)
        usable = int((counts > 1).sum())
        if not 2 <= classes <= usable:
            raise UserError(
                f"classes is {classes}; it must be between 2 and {usable}, the number of "
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
        self.epoch = self._step = self._first_step = 0

    def __len__(self) -> int:
        """Batches of an epoch."""
        return self.steps

    def __iter__(self) -> Iterator[list[int]]:
        """The rows of this rank's share of each batch of the epoch."""
        rank, world_size = collectives.rank(), collectives.world_size()
        if self.batch_size % world_size:
            raise UserError(
                f"A batch of {self.classes} classes x {self.per_class} ({self.batch_size}) does "
                f"not divide among {world_size} ranks: take a multiple of {world_size}."
            )
        epoch, first = self.epoch, self._first_step
        self._first_step = 0
        for step in range(first, self.steps):
            self._step = step + 1
            yield self.batch(epoch, step).local(rank, world_size).index.tolist()
        self.epoch, self._step = epoch + 1, 0

    def set_epoch(self, epoch: int) -> None:
        """Let the next pass be that of this epoch, from 0."""
        check_number("epoch", epoch, least=0, whole=True)
        self.epoch, self._step, self._first_step = epoch, 0, 0

    def state_dict(self) -> dict[str, int]:
        """Where the pass is: its epoch, the steps given out, and the seed."""
        return {"epoch": self.epoch, "step": self._step, "seed": self.seed}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Let the next pass go on from there. Raises UserError for a place that there is not."""
        for key, most in (("epoch", 10**12), ("step", self.steps), ("seed", 10**12)):
            check_number(f"{key} of the sampler's state", state.get(key), 0, most, whole=True)
        if state["seed"] != self.seed:
            raise UserError(
                f"The sampler's state is of seed {state['seed']}, but its seed is {self.seed}."
            )
        self.epoch, self._step = state["epoch"], state["step"]
        self._first_step = state["step"]

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


def _as_labels(labels: Sequence[int] | np.ndarray | torch.Tensor) -> np.ndarray:
    """The labels [N]; refuses what are no whole numbers."""
    if isinstance(labels, torch.Tensor):
        labels = labels.detach().cpu().numpy()
    array = np.asarray(labels)
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise UserError(
            f"labels have shape {array.shape} and type {array.dtype}; they must be whole numbers, "
            "one for each image."
        )
    return array
