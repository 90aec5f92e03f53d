"""What the data report looks at in every image, read in one pass that holds few of them at once."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from tqdm import tqdm

from rhs.report.pictures import Picture, thumbnail

SIDE = 32  # pixels of the gray thumbnails, both ways: the image's shape is not kept
SPLITS = ("train", "val", "test", "query", "gallery")  # query and gallery are parts of the test
_ROWS = 256  # images held at once
_COLUMNS = ["label", "split", "name", "sha256", "width", "height"]


@dataclass(frozen=True)
class Fingerprints:
    """All N images of a shards folder, in shard order: train, then val, then test.

    Attributes:
        files, ends: the shards, and how many images come before each one's end.
        class_names: what the labels index.
        names, sha256: path in the source and checksum of the source's bytes, of each image.
        label_N: int64.
        split_N: int64, index into SPLITS.
        size_N2: int64, width and height as stored.
        pixels_N: int64; images with one number are the same pixel for pixel.
        gray_NHW: uint8 [N, SIDE, SIDE] thumbnails.
    """

    files: list[Path]
    ends: np.ndarray
    class_names: list[str]
    names: list[str]
    sha256: list[str]
    label_N: np.ndarray
    split_N: np.ndarray
    size_N2: np.ndarray
    pixels_N: np.ndarray
    gray_NHW: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    def pictures(self, wanted: Iterable[int]) -> dict[int, Picture]:
        """Thumbnails of the wanted images, ready for a page; reads only the shards they are in."""
        indices = np.unique(np.fromiter(wanted, dtype=np.int64))
        shard = np.searchsorted(self.ends, indices, side="right")
        found = {}
        for s in np.unique(shard):
            here = indices[shard == s]
            first = self.ends[s - 1] if s else 0
            for start, images in _batches(self.files[s], ["image"]):
                offset = first + start
                for i in here[(here >= offset) & (here < offset + len(images))]:
                    uri, width, height = thumbnail(images["image"][int(i - offset)].as_py())
                    class_name = self.class_names[self.label_N[i]]
                    found[int(i)] = Picture(uri, width, height, class_name, self.names[i])
        return found


def read_fingerprints(folder: Path, manifest: Mapping) -> Fingerprints:
    """Decode every image of the shards once, on every CPU of this process; with a progress bar.

    Memory: about 1.5 KiB an image, and the `_ROWS` that are being decoded.
    """
    files = [folder / shard["file"] for shard in manifest["shards"]]
    rows = [shard["rows"] for shard in manifest["shards"]]
    gray_NHW = np.empty((sum(rows), SIDE, SIDE), dtype=np.uint8)
    number_of: dict[bytes, int] = {}
    pixels: list[int] = []
    tables = []
    with (
        ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool,
        tqdm(total=sum(rows), desc="look at images", disable=None) as bar,
    ):
        for file in files:
            for _, batch in _batches(file, ["image", *_COLUMNS]):
                for digest, gray_HW in pool.map(_fingerprint, batch["image"].to_pylist()):
                    gray_NHW[len(pixels)] = gray_HW
                    pixels.append(number_of.setdefault(digest, len(number_of)))
                tables.append(pa.Table.from_batches([batch.select(_COLUMNS)]))
                bar.update(len(batch))
    columns = pa.concat_tables(tables)
    return Fingerprints(
        files=files,
        ends=np.cumsum(rows),
        class_names=manifest["class_names"],
        names=columns["name"].to_pylist(),
        sha256=columns["sha256"].to_pylist(),
        label_N=columns["label"].to_numpy().astype(np.int64),
        split_N=np.array([SPLITS.index(split) for split in columns["split"].to_pylist()]),
        size_N2=np.stack([columns[c].to_numpy() for c in ("width", "height")], 1).astype(np.int64),
        pixels_N=np.array(pixels),
        gray_NHW=gray_NHW,
    )


def _batches(file: Path, columns: list[str]) -> Iterator[tuple[int, pa.RecordBatch]]:
    """(row it starts with, batch) of a shard."""
    start = 0
    with pq.ParquetFile(file, memory_map=True) as shard:
        for batch in shard.iter_batches(_ROWS, columns=columns):
            yield start, batch
            start += len(batch)


def _fingerprint(encoded: bytes) -> tuple[bytes, np.ndarray]:
    """SHA-256 of an image's size and RGB pixels, and its gray thumbnail."""
    with Image.open(io.BytesIO(encoded)) as image:
        rgb = image.convert("RGB")
    digest = hashlib.sha256(f"{rgb.size}".encode() + rgb.tobytes()).digest()
    # Averaging over boxes: what a copy of another size has in the same place has the same mean.
    return digest, np.asarray(rgb.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX))
