"""Embeddings on disk: Parquet, a file beside each shard, row for row.

Any reader of Parquet reads them. A page of a file carries a checksum, so that a damaged one is
noticed, and a file names the model that made it, so that a stale one is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rhs.errors import UserError
from rhs.storage.atomic import atomic_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

MODEL = b"rhs.model"  # in the file's metadata
_COLUMNS = ["embedding", "name", "label", "class_name", "query"]
_ROW_GROUP = 16384  # rows that a reader holds beside the array that it fills


@dataclass(frozen=True)
class Embeddings:
    """The embeddings of N images, in the order of their shards.

    Attributes:
        embeddings: float32 [N, D], L2-normalized where a model made them.
        labels: int64 [N]; -1: unknown.
        names: of the images, N of them.
        class_names: of each of the N rows; "" where unknown.
        queries: bool [N], True for a query and False for an image of the gallery; None: every image
            is both.
        model: digest of the model that made them (`rhs.models.embedder.model_digest`); "": unknown.
    """

    embeddings: NDArray[np.float32]
    labels: NDArray[np.int64]
    names: list[str]
    class_names: list[str]
    queries: NDArray[np.bool_] | None
    model: str = ""

    def __len__(self) -> int:
        return len(self.names)


def write_embedded(path: Path, embedded: Embeddings) -> None:
    """Write a Parquet file, whole or not at all, in place of any that is there.

    Its columns are `embedding` (a fixed-size list of float32), `name`, `label`, `class_name`, and
    `query`, which is null where every image is both.
    """
    x_ND = np.ascontiguousarray(embedded.embeddings, dtype=np.float32)
    n, dim = x_ND.shape
    queries = np.zeros(n, bool) if embedded.queries is None else embedded.queries
    schema = _schema(dim, embedded.model)
    columns = [
        pa.FixedSizeListArray.from_arrays(pa.array(x_ND.reshape(-1)), type=schema.types[0]),
        pa.array(embedded.names, pa.string()),
        pa.array(np.asarray(embedded.labels), pa.int64()),
        pa.array(embedded.class_names, pa.string()),
        pa.array(queries, pa.bool_(), mask=np.full(n, embedded.queries is None)),
    ]
    table = pa.Table.from_arrays(columns, schema=schema)
    with atomic_file(path) as partial:
        pq.write_table(
            table,
            partial,
            row_group_size=_ROW_GROUP,
            compression="none",  # noise does not shrink, and plain floats are read at once
            use_dictionary=["class_name"],
            write_page_checksum=True,
        )


def read_embedded(path: Path) -> Embeddings:
    """What `write_embedded` wrote.

    Raises:
        UserError: the file is not there, damaged, or holds something else.
    """
    return read_files([path])


def read_split(folder: Path, split: str) -> Embeddings:
    """The embeddings of a split: of every `<split>-*.parquet` in the folder, in their order.

    Raises:
        UserError: there is none, one is damaged, or they do not belong together.
    """
    files = split_files(folder, split)
    if not files:
        raise UserError(
            f"{folder} holds no embeddings of split {split!r} ({split}-00000.parquet): run the "
            "evaluate stage first."
        )
    return read_files(files)


def split_files(folder: Path, split: str) -> list[Path]:
    """The files of a split's embeddings, in order."""
    return sorted(folder.glob(f"{split}-*.parquet"))


def read_files(files: Sequence[Path]) -> Embeddings:
    """The rows of several files, one after the other; see `read_split`.

    Only one array of embeddings is made, and filled a row group at a time.
    """
    rows, dim, model = _heads(files)
    x_ND = np.empty((sum(rows), dim), np.float32)
    tables, start = [], 0
    for file, count in zip(files, rows, strict=True):
        tables.append(_fill(file, x_ND[start : start + count]))
        start += count
    columns = pa.concat_tables(tables)
    return Embeddings(
        embeddings=x_ND,
        labels=columns["label"].to_numpy(),
        names=columns["name"].to_pylist(),
        class_names=columns["class_name"].to_pylist(),
        queries=_queries(files, columns),
        model=model,
    )


@dataclass(frozen=True)
class EmbeddingInfo:
    """What is known of N embeddings without them.

    ``rows``: of each file; ``dim``: D; ``labels`` and ``queries``: as in `Embedded`.
    """

    rows: list[int]
    dim: int
    labels: NDArray[np.int64]
    queries: NDArray[np.bool_] | None


def read_about(files: Sequence[Path]) -> EmbeddingInfo:
    """Read everything of several files but the embeddings and names; raises as `read_files`."""
    rows, dim, _ = _heads(files)
    columns = pa.concat_tables([_about(file) for file in files])
    labels_N = columns["label"].to_numpy().astype(np.int64, copy=False)
    return EmbeddingInfo(rows, dim, labels_N, _queries(files, columns))


def _about(path: Path) -> pa.Table:
    try:
        return pq.read_table(path, columns=["label", "query"])
    except (OSError, pa.ArrowException) as error:
        raise _damaged(path, error) from error


def _queries(files: Sequence[Path], columns: pa.Table) -> NDArray[np.bool_] | None:
    missing = columns["query"].null_count
    if missing not in (0, len(columns)):
        raise UserError(f"{files[0].parent}: some images are queries or gallery, others neither.")
    return None if missing == len(columns) else columns["query"].to_numpy()


def _schema(dim: int, model: str) -> pa.Schema:
    item = pa.field("element", pa.float32(), nullable=False)
    types = [pa.list_(item, dim), pa.string(), pa.int64(), pa.string(), pa.bool_()]
    fields = [
        pa.field(name, kind, nullable=name == "query")
        for name, kind in zip(_COLUMNS, types, strict=True)
    ]
    return pa.schema(fields, metadata={MODEL: model.encode()})


def _heads(files: Sequence[Path]) -> tuple[list[int], int, str]:
    """Rows of each file, and D and the model that all of them share."""
    heads = [_head(file) for file in files]
    dim, model = heads[0][1:]
    for file, head in zip(files, heads, strict=True):
        if head[1:] != (dim, model):
            raise UserError(
                f"{files[0]} and {file} were made by different models: run the evaluate stage "
                "again."
            )
    return [head[0] for head in heads], dim, model


def _head(path: Path) -> tuple[int, int, str]:
    """Rows, D and the model of a file of embeddings."""
    try:
        with pq.ParquetFile(path) as file:
            rows, schema = file.metadata.num_rows, file.schema_arrow
    except FileNotFoundError:
        raise UserError(f"{path} not found: a Parquet file of embeddings is needed.") from None
    except (OSError, pa.ArrowException) as error:
        raise _damaged(path, error) from error
    index = schema.get_field_index("embedding")
    kind = schema.types[index] if index >= 0 else None
    if kind is None or not pa.types.is_fixed_size_list(kind) or kind.value_type != pa.float32():
        raise UserError(
            f"{path} holds no embeddings: a column `embedding` of fixed-size lists of float32 is "
            "needed."
        )
    if absent := [name for name in _COLUMNS if name not in schema.names]:
        raise UserError(f"{path} lacks the column {absent[0]!r}: {', '.join(_COLUMNS)} are needed.")
    return rows, kind.list_size, (schema.metadata or {}).get(MODEL, b"").decode()


def _fill(path: Path, x_ND: NDArray[np.float32]) -> pa.Table:
    """Read the embeddings of a file into an array of its size; returns the other columns."""
    start, others = 0, []
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            for batch in file.iter_batches(batch_size=_ROW_GROUP, columns=_COLUMNS):
                values = batch["embedding"].flatten().to_numpy()  # no copy; refuses nulls
                x_ND[start : start + len(batch)] = values.reshape(len(batch), -1)
                others.append(batch.drop_columns(["embedding"]))
                start += len(batch)
        schema = _schema(x_ND.shape[1], "").remove(0)
        return pa.Table.from_batches(others).cast(schema) if others else schema.empty_table()
    except (OSError, ValueError, pa.ArrowException) as error:  # ArrowInvalid is a ValueError
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> UserError:
    return UserError(f"{path} is damaged, or no Parquet file ({' '.join(str(error).split())}).")
