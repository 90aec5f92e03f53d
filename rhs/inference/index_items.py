"""What the rows of an index are: each image's name, class, split and thumbnail."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from rhs.data.shards import ShardedImages
from rhs.data.thumbnail import thumbnail
from rhs.errors import UserError

SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("class_name", pa.string()),
        ("split", pa.string()),
        ("thumbnail", pa.binary()),  # JPEG or PNG; empty: none
    ]
)
ROW_GROUP = 256  # rows that are read to show one of them: a megabyte


class Item(NamedTuple):
    """One image of an index."""

    name: str
    class_name: str
    split: str
    thumbnail: bytes


def write_items(path: Path, shards: Path, splits: Sequence[str], side: int) -> None:
    """Write the items of some splits, in the order of their shards.

    Args:
        side: of the thumbnails in pixels; 0: none.
    """
    images = {split: ShardedImages(shards, split) for split in splits}
    total = sum(len(each) for each in images.values())
    options = {"compression": "none", "write_page_checksum": True, "use_dictionary": False}
    with (
        pq.ParquetWriter(path, SCHEMA, **options) as writer,
        ThreadPoolExecutor(os.cpu_count() or 1) as pool,
        tqdm(total=total, desc="thumbnails", unit="image", disable=None) as bar,
    ):
        for split, each in images.items():
            for start in range(0, len(each), ROW_GROUP):
                rows = range(start, min(start + ROW_GROUP, len(each)))
                # Read here: a shard's file is opened by the first who asks.
                encoded = [each.bytes(i) for i in rows] if side else []
                small = pool.map(lambda data: thumbnail(data, side), encoded)
                columns = [
                    [each.names[i] for i in rows],
                    [each.class_names[each.labels[i]] for i in rows],
                    [split] * len(rows),
                    list(small) if side else [b""] * len(rows),
                ]
                writer.write_table(pa.Table.from_arrays(list(map(pa.array, columns)), SCHEMA.names))
                bar.update(len(rows))


class Items:
    """The items of an index, read as they are asked for.

    Raises:
        UserError: the file is missing, damaged, or no such file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = pq.ParquetFile(path, memory_map=True, page_checksum_verification=True)
        except (OSError, pa.ArrowException) as error:
            raise self._damaged(error) from error
        if not self._file.schema_arrow.equals(SCHEMA):
            raise UserError(f"{path} has not the columns {', '.join(SCHEMA.names)}.")
        groups = range(self._file.metadata.num_row_groups)
        counts = [self._file.metadata.row_group(group).num_rows for group in groups]
        self._starts = np.cumsum([0, *counts])
        self._group = lru_cache(maxsize=16)(self._read)  # neighbors often lie together

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, row: int) -> Item:
        """The item of a row; the others of its row group are read with it, no more."""
        if not 0 <= row < len(self):
            raise IndexError(f"item {row} of {len(self)}")
        group = int(np.searchsorted(self._starts, row, side="right")) - 1
        (values,) = self._group(group).slice(row - int(self._starts[group]), 1).to_pylist()
        return Item(**values)

    def _read(self, group: int) -> pa.Table:
        try:
            return self._file.read_row_group(group, use_threads=False)
        except (OSError, pa.ArrowException) as error:
            raise self._damaged(error) from error

    def __iter__(self) -> Iterator[Item]:
        return (self[row] for row in range(len(self)))

    def _damaged(self, error: Exception) -> UserError:
        return UserError(
            f"{self.path} cannot be read ({' '.join(str(error).split())}): run the evaluate stage "
            "again."
        )
