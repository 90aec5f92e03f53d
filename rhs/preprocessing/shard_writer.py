"""Rows to Parquet shards, with little of them in memory; the bytes depend on the rows alone."""

from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rhs.data.shards import SHARD_SCHEMA
from rhs.errors import check_number
from rhs.storage.digest import file_digest

ROW_GROUP_BYTES = 2**24  # of images; what the writer holds in memory
# Images are compressed already, and each is different: no dictionary, no second try.
TEXTS = [name for name in SHARD_SCHEMA.names if name != "image"]
COMPRESSION = {name: "none" if name == "image" else "zstd" for name in SHARD_SCHEMA.names}


class ShardWriter:
    """Writes rows to `<group>-<number>.parquet`, `rows_per_shard` to a file, in their order.

    A row group ends before the row whose image would take it beyond ROW_GROUP_BYTES. So where the
    tables given to `add` end makes no difference to any byte.

    Attributes:
        shards: {"file", "rows", "sha256"} of each file that is finished, in order.
    """

    def __init__(self, folder: Path, rows_per_shard: int) -> None:
        check_number("preprocess.rows_per_shard", rows_per_shard, least=1, whole=True)
        self.folder, self.rows_per_shard = folder, rows_per_shard
        self.shards: list[dict[str, Any]] = []
        self._group = ""
        self._parquet: pq.ParquetWriter | None = None
        self._rows = 0  # of this file, the waiting ones too
        self._waiting: list[pa.Table] = []  # the row group to be
        self._bytes = 0  # of the images in it

    def add(self, table: pa.Table) -> None:
        """Write rows that have the columns of SHARD_SCHEMA and `group`; each group's in one run."""
        columns = table.select(SHARD_SCHEMA.names).cast(SHARD_SCHEMA)
        sizes = pc.binary_length(table["image"]).to_pylist()
        start = 0
        for row, (group, size) in enumerate(zip(table["group"].to_pylist(), sizes, strict=True)):
            new_file = group != self._group or self._rows == self.rows_per_shard
            if new_file or self._bytes + size > ROW_GROUP_BYTES:
                self._waiting.append(columns.slice(start, row - start))
                start = row
                self._end_row_group()
            if new_file:
                self._end_file()
                self._group = group
            self._rows += 1
            self._bytes += size
        self._waiting.append(columns.slice(start))

    def close(self) -> None:
        """Finish the last file."""
        self._end_row_group()
        self._end_file()

    def _end_row_group(self) -> None:
        table = pa.concat_tables(self._waiting) if self._waiting else SHARD_SCHEMA.empty_table()
        self._waiting, self._bytes = [], 0
        if not len(table):
            return
        if self._parquet is None:
            self._parquet = pq.ParquetWriter(
                self._path(), SHARD_SCHEMA, compression=COMPRESSION, use_dictionary=TEXTS
            )
        # In one piece: chunks would show in where the pages end.
        self._parquet.write_table(table.combine_chunks(), row_group_size=len(table))

    def _end_file(self) -> None:
        if self._parquet is None:
            return
        self._parquet.close()
        self._parquet = None
        path = self._path()
        digest = file_digest(path)
        self.shards.append({"file": path.name, "rows": self._rows, "sha256": digest})
        self._rows = 0

    def _path(self) -> Path:
        number = sum(shard["file"].startswith(f"{self._group}-") for shard in self.shards)
        return self.folder / f"{self._group}-{number:05d}.parquet"

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self._parquet is not None:  # only after an error: the file is of no use
            self._parquet.close()
