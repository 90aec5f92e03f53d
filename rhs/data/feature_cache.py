"""What a frozen trunk makes of a split's images, computed once and kept on disk."""

import hashlib
import inspect
import json
import shutil
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from tqdm import tqdm

from rhs.data import transforms
from rhs.data.batch_sampler import BatchIndices
from rhs.data.cache_lock import lock_cache
from rhs.data.decoded_cache import GIB, cache_path
from rhs.data.loader import TrainLoader, evaluation_batches
from rhs.data.shards import ShardedImages
from rhs.errors import UserError
from rhs.models.embedder import Embedder, feature_size
from rhs.storage.atomic import atomic_folder
from rhs.storage.outputs import CACHE

AT_ONCE = 32  # images through the trunk; part of what decides the last digit
FILE = "features.npy"


class Features(ShardedImages):
    """The images of a split, and what an embedder's trunk makes of their evaluation views.

    The first process of a machine that asks computes the features, the others wait for it. All
    share the memory that holds what was read of the file last.

    Attributes:
        x_NF: float32 [N, F], memory-mapped.

    Args:
        folder, split: of the shards.
        embedder: its trunk is used in evaluation mode and left so.
        cache: a folder for the features; beside those of other trunks and shards.
        device: that computes them, if they are not there.
        threads: that decode.

    Raises:
        UserError: `cache` cannot be written, or has not enough space.
    """

    def __init__(
        self,
        folder: Path,
        split: str,
        embedder: Embedder,
        cache: Path,
        device: torch.device,
        threads: int = 1,
    ) -> None:
        super().__init__(folder, split)
        where = cache / f"{cache_path(folder, split, cache).name}-{_digest(embedder, device)}"
        if not self._is_whole(where):
            with lock_cache(cache, where.name, f"another process is computing {where.name}"):
                if not self._is_whole(where):
                    self._make(where, embedder.to(device), device, threads)
        self.x_NF: NDArray[np.float32] = np.load(where / FILE, mmap_mode="r")

    def batches(self, rows: Sequence[int], batch_size: int) -> Iterator[torch.Tensor]:
        """Yields the features of the given rows, float32 [<= batch_size, F]."""
        for start in range(0, len(rows), batch_size):
            yield torch.from_numpy(self.x_NF[rows[start : start + batch_size]])

    def _is_whole(self, where: Path) -> bool:
        file = where / FILE
        return file.exists() and len(np.load(file, mmap_mode="r")) == len(self)

    def _make(self, where: Path, embedder: Embedder, device: torch.device, threads: int) -> None:
        shape = len(self), feature_size(embedder.trunk)
        needed, free = 4 * shape[0] * shape[1], shutil.disk_usage(where.parent).free
        if needed > free:
            raise UserError(
                f"The trunk's features need {needed / GIB:.1f} GiB in {where.parent}, which has "
                f"{free / GIB:.1f} GiB left: choose another cluster.cache_folder."
            )
        embedder.eval()
        views = evaluation_batches(self, range(len(self)), embedder.image_size, AT_ONCE, threads)
        with atomic_folder(where, CACHE) as building, torch.inference_mode():
            x_NF = open_memmap(building / FILE, "w+", np.float32, shape)
            with tqdm(total=len(self), desc=f"features of {where.name}", disable=None) as bar:
                for number, batch in enumerate(views):
                    x_bF = embedder.features(batch.to(device)).float().cpu().numpy()
                    start = number * AT_ONCE
                    x_NF[start : start + len(x_bF)] = x_bF
                    bar.update(len(x_bF))
            x_NF.flush()


class FeatureLoader(TrainLoader):
    """A TrainLoader of features: the same plan, and no augmentation.

    An image that an epoch draws twice has the same features both times.
    """

    images: Features

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[torch.Tensor, ...]]:
        """Yields (features [b, F], labels [B]) for the steps of the epoch from `start`.

        Labels are those of the whole batch, in rank order. Behind them come its continuous labels
        [B, L], where the loader was given any.
        """
        for step in range(start, self.plan.steps):
            slot: BatchIndices = self._slot(epoch, step)
            yield (torch.from_numpy(self.images.x_NF[slot.index]), *self._labels(epoch, step))

    def evaluation_views(
        self, batch_size: int = 1024
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yields (features, labels) of this rank's share of all training images.

        The shares are contiguous and disjoint; the last may be short, or empty.
        """
        share = -(-len(self.images) // self.world_size)
        last = min(share * (self.rank + 1), len(self.images))
        for start in range(share * self.rank, last, batch_size):
            rows = slice(start, min(start + batch_size, last))
            x_bF = np.array(self.images.x_NF[rows])
            yield torch.from_numpy(x_bF), torch.from_numpy(self.plan.labels[rows])


def _digest(embedder: Embedder, device: torch.device) -> str:
    """Of all that features depend on, but the images and their decoder."""
    modules = transforms, inspect.getmodule(Embedder), inspect.getmodule(type(embedder.trunk))
    code = [inspect.getsource(module) for module in modules if module is not None]
    packages = [version(name) for name in ("torch", "timm")]
    what = [code, packages, str(embedder.trunk), embedder.image_size, device.type, AT_ONCE]
    digest = hashlib.sha256(json.dumps(what).encode())
    trunk = {f"trunk.{name}": value for name, value in embedder.trunk.state_dict().items()}
    for name, tensor in [*trunk.items(), ("mean", embedder.mean), ("std", embedder.std)]:
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:12]
