"""Batches for training and in order, prepared in the background while the model computes."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, TypeVar

import numpy as np
import torch

from rhs.data.batch_sampler import BalancedBatchSampler, BatchIndices
from rhs.data.transforms import Augmentation, view

AUGMENT = 1  # keeps the augmentation's random stream apart from the plan's
Key = TypeVar("Key")
Made = TypeVar("Made")


class Images(Protocol):
    """What a loader needs of a split (rhs.data.shards.ShardedImages is one)."""

    labels: np.ndarray
    names: list[str]

    def __len__(self) -> int: ...

    def decode(self, i: int) -> np.ndarray:
        """uint8 [H, W, C]: C is 1 if it is gray, else 3."""


class TrainLoader:
    """This rank's share of the planned batches.

    The view of an image depends on (seed, epoch, image, how often it was drawn before), never on
    the worker or the thread that makes it. Labels are the plan's, which may be coarser than the
    images'.

    Args:
        image_size: S, pixels of a view.
        threads: that decode and augment, each another batch.
        values_NL: continuous labels of the images, for a method that takes them.
    """

    def __init__(
        self,
        images: Images,
        plan: BalancedBatchSampler,
        augmentation: Augmentation,
        image_size: int,
        rank: int = 0,
        world_size: int = 1,
        *,
        threads: int = 1,
        values_NL: np.ndarray | None = None,
    ):
        plan.check_workers(world_size)
        self.images, self.plan, self.augmentation = images, plan, augmentation
        self.image_size, self.rank, self.world_size = image_size, rank, world_size
        self.threads, self.values_NL = threads, values_NL

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[torch.Tensor, ...]]:
        """Yields (uint8 images [b, 3, S, S], labels [B]) for the steps of the epoch from `start`.

        Labels are those of the whole batch, in rank order. Behind them come its continuous labels
        [B, L], where the loader was given any.
        """
        slots = [self._slot(epoch, step) for step in range(start, self.plan.steps)]
        if not slots:  # a checkpoint of its last step goes on here
            return
        for step, pixels in enumerate(self._pixels(epoch, slots), start):
            yield (to_tensor(pixels), *self._labels(epoch, step))

    def evaluation_views(self, batch_size: int = 64) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yields (uint8 evaluation views, labels) of this rank's share of all training images.

        The shares are contiguous and disjoint; the last may be short, or empty.
        """
        share = -(-len(self.images) // self.world_size)
        rows = range(share * self.rank, min(share * (self.rank + 1), len(self.images)))
        start = 0
        for pixels in evaluation_batches(
            self.images, rows, self.image_size, batch_size, self.threads
        ):
            here = rows[start : start + len(pixels)]
            yield pixels, torch.from_numpy(self.plan.labels[here.start : here.stop])
            start += len(pixels)

    def describe(self, epoch: int, step: int) -> str:
        """The batch in words that find it again."""
        rows = self.plan.batch(epoch, step).index
        names = [self.images.names[row] for row in rows[:3]]
        return f"{len(rows)} images, the first are {', '.join(names)}"

    def _labels(self, epoch: int, step: int) -> list[torch.Tensor]:
        """Of the whole batch, continuous ones behind them."""
        rows_B = self.plan.batch(epoch, step).index
        of_N = [self.plan.labels, self.values_NL]
        return [torch.from_numpy(labels[rows_B]) for labels in of_N if labels is not None]

    def _slot(self, epoch: int, step: int) -> BatchIndices:
        return self.plan.batch(epoch, step).local(self.rank, self.world_size)

    def _pixels(self, epoch: int, slots: Sequence[BatchIndices]) -> Iterator[np.ndarray]:
        """The views of each slot, uint8 [b, S, S, 3]; made elsewhere by rhs.data.ray_loader."""

        def make(slot: BatchIndices) -> np.ndarray:
            return augmented_batch(
                self.images, slot, self.augmentation, self.image_size, self.plan.seed, epoch
            )

        return prefetch(make, slots, self.threads)


def augmented_batch(
    images: Images,
    slot: BatchIndices,
    augmentation: Augmentation,
    image_size: int,
    seed: int,
    epoch: int,
) -> np.ndarray:
    """The augmented views of a slot's images, uint8 [b, S, S, 3]: a pure function."""
    return np.stack(
        [
            augmentation(
                images.decode(image),
                image_size,
                np.random.default_rng([seed, epoch, image, draw, AUGMENT]),
            )
            for image, draw in zip(slot.index, slot.repeat, strict=True)
        ]
    )


def evaluation_batches(
    images: Images, rows: Sequence[int], image_size: int, batch_size: int, threads: int = 1
) -> Iterator[torch.Tensor]:
    """Yields the evaluation views of the given rows, uint8 [<= batch_size, 3, S, S]."""

    def make(start: int) -> torch.Tensor:
        chunk = rows[start : start + batch_size]
        return to_tensor(np.stack([view(images.decode(i), image_size) for i in chunk]))

    return prefetch(make, range(0, len(rows), batch_size), threads)


def to_tensor(pixels_bSS3: np.ndarray) -> torch.Tensor:
    """[b, 3, S, S] in channels-last memory, which is how it lies already."""
    return torch.from_numpy(pixels_bSS3).permute(0, 3, 1, 2)


def prefetch(make: Callable[[Key], Made], keys: Sequence[Key], threads: int) -> Iterator[Made]:
    """make(key) for each key, in order; each thread is at most one ahead of the consumer."""
    # Threads suffice: the decoder and torch's resampling release the interpreter lock.
    with ThreadPoolExecutor(threads) as pool:
        coming: deque[Future[Made]] = deque()
        for key in keys:
            coming.append(pool.submit(make, key))
            if len(coming) > threads:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()
