"""Shards: a split's encoded images as Parquet files, and the manifest that describes them."""

import json
import mmap
import struct
from bisect import bisect_right
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from rhs.data.decode import decode
from rhs.errors import UserError

SHARD_SCHEMA = pa.schema(
    [
        ("image", pa.binary()),  # encoded, PNG or JPEG
        ("label", pa.int32()),  # index into the sorted class names of the whole data set
        ("class_name", pa.string()),
        ("name", pa.string()),
        ("sha256", pa.string()),  # of the source's bytes
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("split", pa.string()),  # "train", "val", "test"; or "query", "gallery" in files of "test"
        ("converted", pa.string()),  # what was changed, e.g. "RGBA -> RGB"; null: nothing
        ("values", pa.list_(pa.float64())),  # continuous labels; null: the data set has none
    ]
)


def load_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a shards folder; its fields are listed in `rhs.preprocessing.manifest`.

    Raises:
        UserError: there is none; the preprocess stage writes it.
    """
    path = folder / "manifest.json"
    if not path.exists():
        raise UserError(f"{path} not found: run the preprocess stage first.")
    manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return manifest


def has_split(folder: Path, split: str) -> bool:
    """Whether the split holds any image; "val" does not where no class was held out."""
    return bool(load_manifest(folder)["splits"][split]["images"])


class ShardedImages:
    """The images of one split, in shard order: sorted by class, then by name.

    Shards are mapped into memory: what of them is in memory is the system's cache of the disk,
    shared by all processes of a machine.

    Attributes:
        labels: int64 [N], indices into `class_names`.
        class_names: sorted names of all classes of the data set, of every split.
        names: path inside the source of each of the N images.
        sizes: int32 [N, 2], height and width in pixels.
        queries: bool [N], True for a query and False for an image of the gallery that the queries
            are searched in; None where every image is both.
        values: float64 [N, L], continuous labels; None where the data set has none.
    """

    def __init__(self, folder: Path, split: str) -> None:
        manifest = load_manifest(folder)
        if split not in manifest["splits"]:
            raise UserError(f"no split {split!r} in {folder}; has {', '.join(manifest['splits'])}.")
        shards = [s for s in manifest["shards"] if s["file"].startswith(f"{split}-")]
        self.class_names: list[str] = manifest["class_names"]
        self._files = [folder / shard["file"] for shard in shards]
        if self._files and not pq.read_schema(self._files[0]).equals(SHARD_SCHEMA):
            raise UserError(
                f"{self._files[0]} has other columns than this version's shards: run the "
                "preprocess stage again."
            )
        self._ends: list[int] = np.cumsum([shard["rows"] for shard in shards], dtype=int).tolist()
        self._shards: dict[int, _Shard] = {}
        wanted = ["label", "name", "split", "values", "width", "height"]
        tables = [pq.read_table(file, columns=wanted) for file in self._files]
        columns = pa.concat_tables([SHARD_SCHEMA.empty_table().select(wanted), *tables])
        self.labels: NDArray[np.int64] = columns["label"].to_numpy().astype(np.int64)
        self.names: list[str] = columns["name"].to_pylist()
        self.sizes = np.stack([columns[side].to_numpy() for side in ("height", "width")], axis=1)
        parts = np.array(columns["split"].to_pylist(), dtype=object)
        self.queries = None if "query" not in parts else parts == "query"
        given = columns["values"].null_count == 0 and len(self) > 0
        self.values = np.array(columns["values"].to_pylist(), dtype=float) if given else None

    def __len__(self) -> int:
        return len(self.names)

    def bytes(self, i: int) -> bytes:
        """The i-th image, encoded as PNG or JPEG."""
        if not 0 <= i < len(self):
            raise IndexError(f"image {i} of {len(self)}")
        shard = bisect_right(self._ends, i)
        if shard not in self._shards:
            self._shards[shard] = _Shard(self._files[shard])
        return self._shards[shard].bytes(i - (self._ends[shard - 1] if shard else 0))

    def decode(self, i: int) -> NDArray[np.uint8]:
        """The i-th image, uint8 [H, W, C]: C is 1 if it is gray, else 3, red, green, blue."""
        return decode(self.bytes(i))


class _Shard:
    """Where the images of one shard lie in its file.

    Parquet stores a column of uncompressed bytes as they are, each value behind its length, so an
    image is a slice of the mapped file. Only where each starts has to be found, once.
    """

    def __init__(self, path: Path) -> None:
        with path.open("rb") as stream:
            self._map = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        self._starts: list[int] = []
        self._sizes: list[int] = []
        at = 0
        for batch in pq.ParquetFile(path).iter_batches(columns=["image"], batch_size=256):
            for value in batch["image"]:
                image = value.as_buffer()
                at = self._find(image, at)
                self._starts.append(at)
                self._sizes.append(image.size)
                at += image.size

    def _find(self, image: pa.Buffer, at: int) -> int:
        """Where `image` lies, at or after `at`; between two pages there is a header."""
        marked = struct.pack("<I", image.size) + image[:16].to_pybytes()
        wanted = memoryview(image).cast("B")
        while (found := self._map.find(marked, at)) >= 0:
            start = found + 4
            if memoryview(self._map)[start : start + image.size] == wanted:
                return start
            at = found + 1
        raise AssertionError("a shard's images are stored uncompressed and plain")

    def bytes(self, row: int) -> bytes:
        start = self._starts[row]
        return self._map[start : start + self._sizes[row]]
