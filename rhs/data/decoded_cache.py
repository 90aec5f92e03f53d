"""A split's images decoded once, onto a disk near the processor, to train without a decoder."""

import hashlib
import json
import shutil
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from rhs.data import decode
from rhs.data.cache_lock import lock_cache
from rhs.data.shards import ShardedImages, load_manifest
from rhs.errors import UserError
from rhs.storage.atomic import atomic_folder
from rhs.storage.outputs import CACHE

GIB = 1 << 30
AT_ONCE = 256  # images decoded before they are written


class DecodedImages(ShardedImages):
    """The images of a split, whose pixels come from a memory-mapped file instead of a decoder.

    The pixels are those of the decoder, bit for bit. The first process of a machine that asks makes
    the file, the others wait for it. All share the memory that holds what was read of it last.

    Args:
        folder, split: of the shards.
        cache: a folder for the pixels; beside those of other shards, which keep their own.
        threads: that decode at first.

    Raises:
        UserError: not enough space for the pixels in `cache`.
    """

    def __init__(self, folder: Path, split: str, cache: Path, threads: int = 1) -> None:
        super().__init__(folder, split)
        where = cache_path(folder, split, cache)
        if not self._is_whole(where):
            doing = f"another process is decoding {where.name}"
            with lock_cache(cache, where.name, doing, ", or cluster.input=shards"):
                if not self._is_whole(where):
                    self._check_space(cache)
                    self._make(where, threads)
        self._shape_N3 = np.load(where / "shapes.npy")
        ends_N = self._shape_N3.prod(axis=1, dtype=np.int64).cumsum()
        self._start_N = np.concatenate([[0], ends_N])
        # Copied when written to, as torch wants it; nobody writes.
        self._pixels = np.memmap(where / "pixels", np.uint8, mode="c") if len(self) else None

    def decode(self, i: int) -> NDArray[np.uint8]:
        """The i-th image, uint8 [H, W, C]: C is 1 if it is gray, else 3, red, green, blue."""
        if not 0 <= i < len(self):
            raise IndexError(f"image {i} of {len(self)}")
        assert self._pixels is not None
        pixels = np.asarray(self._pixels[self._start_N[i] : self._start_N[i + 1]])
        return pixels.reshape(self._shape_N3[i])

    def _is_whole(self, where: Path) -> bool:
        """Whether the pixels are there, all of them."""
        if not where.exists():
            return False
        shape_N3 = np.load(where / "shapes.npy")
        size = int(shape_N3.prod(axis=1, dtype=np.int64).sum())
        return len(shape_N3) == len(self) and (where / "pixels").stat().st_size == size

    def _check_space(self, cache: Path) -> None:
        needed, free = decoded_size(self), shutil.disk_usage(cache).free
        if needed > free:
            raise UserError(
                f"The decoded images need up to {needed / GIB:.1f} GiB in {cache}, which has "
                f"{free / GIB:.1f} GiB left: choose another cluster.cache_folder, or "
                "cluster.input=shards."
            )

    def _make(self, where: Path, threads: int) -> None:
        shapes = np.empty((len(self), 3), dtype=np.int32)
        with atomic_folder(where, CACHE) as folder, (folder / "pixels").open("wb") as file:
            with ThreadPoolExecutor(threads) as pool:
                for i, pixels in enumerate(self._all_decoded(pool)):
                    shapes[i] = pixels.shape
                    file.write(np.ascontiguousarray(pixels).data)
            np.save(folder / "shapes.npy", shapes)

    def _all_decoded(self, pool: ThreadPoolExecutor) -> Iterable[NDArray[np.uint8]]:
        for first in tqdm(range(0, len(self), AT_ONCE), "decode", disable=None):
            rows = range(first, min(first + AT_ONCE, len(self)))
            yield from pool.map(super().decode, rows)


def decoded_size(images: ShardedImages) -> int:
    """Bytes of the decoded images, at most: gray ones take a third."""
    return int(images.sizes.prod(axis=1, dtype=np.int64).sum()) * 3


def cache_path(folder: Path, split: str, cache: Path) -> Path:
    """Where in `cache` the pixels lie, by all they depend on: the shards, and what decodes them."""
    manifest = load_manifest(folder)
    what = [manifest["digest"], Path(decode.__file__).read_text(encoding="utf-8")]
    what += [version("pillow"), version("simplejpeg")]
    digest = hashlib.sha256(json.dumps(what).encode()).hexdigest()[:12]
    return cache / f"{manifest['dataset']}-{digest}-{split}"
