"""Loads batches through Ray Data: CPU nodes decode for GPU nodes."""

from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from rhs.data.batch_sampler import BatchIndices
from rhs.data.loader import TrainLoader, augmented_batch
from rhs.data.shards import ShardedImages
from rhs.memory import keep_freed_memory


class RayTrainLoader(TrainLoader):
    """A TrainLoader whose batches come through Ray Data: the same, bit for bit.

    Each worker streams its own plan, in order, `threads` batches of it in the making at once, each
    on one processor of any node that sees `shards`. A batch whose maker dies is made again.

    Args:
        shards: folder of the shards, under a path that is the same on all nodes.
        more: as for TrainLoader, whose images are of the split "train".
    """

    def __init__(self, shards: Path, *more: Any, **named: Any) -> None:
        super().__init__(*more, **named)
        self.shards = shards.resolve()

    def _pixels(self, epoch: int, slots: Sequence[BatchIndices]) -> Iterator[np.ndarray]:
        import ray.data

        from rhs.distributed.ray_cluster import ordered_and_quiet

        make = partial(
            _make,
            shards=str(self.shards),
            augmentation=self.augmentation,
            image_size=self.image_size,
            seed=self.plan.seed,
            epoch=epoch,
        )
        rows = [{"index": slot.index, "repeat": slot.repeat} for slot in slots]
        with ordered_and_quiet():
            batches = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
                make, num_cpus=1, concurrency=self.threads
            )
            for batch in batches.iter_batches(batch_size=None, prefetch_batches=self.threads):
                # Copied: what lies in Ray's object store must not be written to.
                yield from np.array(batch["pixels"])


def _make(row: dict, shards: str, **settings: Any) -> dict[str, np.ndarray]:
    """Runs in a process of Ray's, which keeps the shards open for the next batch."""
    return {
        "pixels": augmented_batch(
            _open(shards), BatchIndices(row["index"], row["repeat"]), **settings
        )
    }


@lru_cache(maxsize=1)
def _open(shards: str) -> ShardedImages:
    keep_freed_memory()
    return ShardedImages(Path(shards), "train")
