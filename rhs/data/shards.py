"""Shards: a split's encoded images as Parquet files, and the manifest that describes them."""

import json
from bisect import bisect_right
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from rhs.data.images import decode
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
    """The manifest of a shards folder; its fields are listed in `rhs.data.manifest`.

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

    A shard's images are read when one of them is first asked for and then kept, so a process that
    visits all of a split holds it once in memory, encoded.

    Attributes:
        labels: int64 [N], indices into `class_names`.
        class_names: sorted names of all classes of the data set, of every split.
        names: path inside the source of each of the N images.
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
        self._ends: list[int] = np.cumsum([shard["rows"] for shard in shards], dtype=int).tolist()
        self._images: dict[int, pa.ChunkedArray] = {}
        wanted = ["label", "name", "split", "values"]
        tables = [pq.read_table(file, columns=wanted) for file in self._files]
        columns = pa.concat_tables([SHARD_SCHEMA.empty_table().select(wanted), *tables])
        self.labels: NDArray[np.int64] = columns["label"].to_numpy().astype(np.int64)
        self.names: list[str] = columns["name"].to_pylist()
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
        if shard not in self._images:
            self._images[shard] = pq.read_table(self._files[shard], columns=["image"])["image"]
        first = self._ends[shard - 1] if shard else 0
        data: bytes = self._images[shard][i - first].as_py()
        return data

    def decode(self, i: int) -> NDArray[np.uint8]:
        """The i-th image as RGB, uint8 [H, W, 3]; a gray one has three equal channels."""
        return decode(self.bytes(i))
