"""Batches for training and in order, prepared in the background while the model computes."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import numpy as np
import torch

from rhs.data.plan import BatchPlan
from rhs.data.transforms import Augmentation, view

AUGMENT = 1  # keeps the augmentation's random stream apart from the plan's


class Images(Protocol):
    """What a loader needs of a split (rhs.data.shards.ShardedImages is one)."""

    labels: np.ndarray
    names: list[str]

    def __len__(self) -> int: ...

    def decode(self, i: int) -> np.ndarray:
        """uint8 RGB [H, W, 3]."""


class TrainLoader:
    """This rank's share of the planned batches.

    The view of an image depends on (seed, epoch, image, how often it was drawn before), never on
    the worker that makes it. Labels are the plan's, which may be coarser than the images'.
    """

    def __init__(
        self,
        images: Images,
        plan: BatchPlan,
        augmentation: Augmentation,
        image_size: int,
        rank: int = 0,
        world_size: int = 1,
    ):
        plan.check_workers(world_size)
        self.images, self.plan, self.augmentation = images, plan, augmentation
        self.image_size, self.rank, self.world_size = image_size, rank, world_size

    def epoch(self, epoch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yields (uint8 images [b, 3, S, S], labels [b]) for every step of the epoch."""
        return _ahead(lambda step: self._batch(epoch, step), range(self.plan.steps))

    def survey(self, batch_size: int = 64) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yields (uint8 evaluation views, labels) of this rank's share of all training images.

        The shares are contiguous and disjoint; the last may be short, or empty.
        """
        share = -(-len(self.images) // self.world_size)
        rows = range(share * self.rank, min(share * (self.rank + 1), len(self.images)))
        start = 0
        for pixels in in_order(self.images, rows, self.image_size, batch_size):
            here = rows[start : start + len(pixels)]
            yield pixels, torch.from_numpy(self.plan.labels[here.start : here.stop])
            start += len(pixels)

    def describe(self, epoch: int, step: int) -> str:
        """The batch in words that find it again."""
        rows = self.plan.batch(epoch, step).image
        names = [self.images.names[row] for row in rows[:3]]
        return f"{len(rows)} images, the first are {', '.join(names)}"

    def _batch(self, epoch: int, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        slot = self.plan.batch(epoch, step).local(self.rank, self.world_size)
        pixels = np.stack(
            [
                self.augmentation(
                    self.images.decode(image),
                    self.image_size,
                    np.random.default_rng([self.plan.seed, epoch, image, draw, AUGMENT]),
                )
                for image, draw in zip(slot.image, slot.draw, strict=True)
            ]
        )
        return _to_tensor(pixels), torch.from_numpy(self.plan.labels[slot.image])


def in_order(
    images: Images, rows: Sequence[int], image_size: int, batch_size: int
) -> Iterator[torch.Tensor]:
    """Yields the evaluation views of the given rows, uint8 [<= batch_size, 3, S, S]."""

    def batch(start: int) -> torch.Tensor:
        chunk = rows[start : start + batch_size]
        return _to_tensor(np.stack([view(images.decode(i), image_size) for i in chunk]))

    return _ahead(batch, range(0, len(rows), batch_size))


def _to_tensor(pixels_bHW3: np.ndarray) -> torch.Tensor:
    """[b, 3, H, W] in channels-last memory, which is how it lies already."""
    return torch.from_numpy(pixels_bHW3).permute(0, 3, 1, 2)


def _ahead(make, keys: Sequence[int]) -> Iterator:
    """make(key) for each key, in order, one ahead of the consumer."""
    # One thread: Pillow and torch release the interpreter lock, so the two overlap.
    with ThreadPoolExecutor(max_workers=1) as pool:
        coming: Future | None = None
        for key in keys:
            ready, coming = coming, pool.submit(make, key)
            if ready is not None:
                yield ready.result()
        if coming is not None:
            yield coming.result()
