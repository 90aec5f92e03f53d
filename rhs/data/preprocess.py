"""Raw folder -> shards, on every CPU that Ray offers.

Workers read, check and decode; the driver alone writes, in the order of the index. The shards'
bytes are therefore the same on any number of workers.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray.data
from tqdm import tqdm

from rhs.atomic import whole_folder
from rhs.cluster import ordered_and_quiet
from rhs.data.images import BadImage, prepare_image
from rhs.data.manifest import Tally, build_manifest, check_refused
from rhs.data.shards import SHARD_SCHEMA
from rhs.data.splits import RETRIEVAL, SPLITS, Classes, official_split, split_classes
from rhs.datasets.raw import read_raw
from rhs.errors import UserError

BLOCK_ROWS = 256  # images per task: at most seconds of work, so the bar keeps moving
CHANGED = "changed since fetch"
PREPARED_SCHEMA = pa.schema(
    [
        ("image", pa.binary()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("why", pa.string()),  # null: the image can be kept
        ("converted", pa.string()),
        ("resized", pa.bool_()),
    ]
)


def preprocess(
    raw: Path,
    out: Path,
    *,
    train_classes: Classes = None,
    test_classes: Classes = None,
    validation: float = 0.1,
    across_classes: str = "refuse",
    short_side: int = 256,
    quality: int = 95,
    max_bad_fraction: float = 0.05,
    rows_per_shard: int = 4096,
) -> dict[str, Any]:
    """Write the shards and the manifest of the raw folder `raw` to `out`; needs a Ray connection.

    An image is refused, named and counted if it cannot be decoded (see `prepare_image`). Copies
    inside a class are kept.

    Args:
        train_classes, test_classes, validation: see `rhs.data.splits`.
        across_classes: what becomes of an image whose exact copy stands in another class, so that
            no label is right: "refuse", or "keep", for benchmarks whose counts are fixed.
        short_side, quality: see `prepare_image`.

    Returns:
        The manifest (`rhs.data.manifest` lists its fields).

    Raises:
        UserError: more than `max_bad_fraction` of the images refused, the source changed since
            fetch, or the classes cannot be split. `out` is as it was before.
    """
    settings = {k: v for k, v in locals().items() if k not in ("raw", "out")}
    index, description = read_raw(raw)
    class_names = sorted(set(index["class_name"].to_pylist()))
    if across_classes not in ("refuse", "keep"):
        raise UserError(
            f"dataset.copies_across_classes is {across_classes!r}; accepted: refuse, keep."
        )
    official = official_split(index["class_name"].to_pylist(), index["split"].to_pylist())
    if (train_classes or test_classes) and set(RETRIEVAL) & set(index["split"].to_pylist()):
        raise UserError(
            "dataset.train_classes and dataset.test_classes must be null: this data set says which "
            "images are queries and which the gallery."
        )
    split_of = split_classes(class_names, train_classes, test_classes, validation, official)
    plan = _plan(index, class_names, split_of)
    copies = _in_several_classes(plan)
    ambiguous = copies if across_classes == "refuse" else {}
    tally = Tally(description["refused"])
    with whole_folder(out) as folder:
        writer = _ShardWriter(folder, rows_per_shard)
        for row in _prepared(plan, raw.resolve(), short_side, quality):
            if why := _why_refused(row, ambiguous, description["source"]):
                tally.refuse({**row, "why": why})
            else:
                tally.keep(row, row["sha256"] in copies)
                writer.add(row)
        check_refused(tally.refused, len(plan) + len(description["refused"]), max_bad_fraction)
        shards = writer.close()
        manifest = build_manifest(description, class_names, split_of, tally, shards, settings)
        text = json.dumps(manifest, indent=1, ensure_ascii=False)
        (folder / "manifest.json").write_text(text + "\n", encoding="utf-8")
    return manifest


def _why_refused(row: dict[str, Any], copies: dict[str, set[str]], source: str) -> str | None:
    if row["why"] == CHANGED:
        raise UserError(
            f"{row['name']} of {source} changed or went away since it was fetched: run the fetch "
            "stage again."
        )
    if not row["why"] and row["sha256"] in copies:
        others = ", ".join(sorted(copies[row["sha256"]] - {row["class_name"]}))
        return f"duplicate content across classes: also in {others}"
    why: str | None = row["why"]
    return why


def _in_several_classes(index: pa.Table) -> dict[str, set[str]]:
    """Checksum -> classes, where one content stands in more than one class."""
    classes: dict[str, set[str]] = defaultdict(set)
    pairs = zip(index["sha256"].to_pylist(), index["class_name"].to_pylist(), strict=True)
    for sha256, class_name in pairs:
        classes[sha256].add(class_name)
    return {sha256: names for sha256, names in classes.items() if len(names) > 1}


def _plan(index: pa.Table, class_names: list[str], split_of: dict[str, str]) -> pa.Table:
    """The index with `label` and `group`, in the order of the shards: group, class, name.

    The group is "train", "val" or "test", and so is `split` but for queries and galleries.
    """
    label_of = {name: label for label, name in enumerate(class_names)}
    classes = index["class_name"].to_pylist()
    labels = np.array([label_of[name] for name in classes], dtype=np.int32)
    order_of = {name: SPLITS.index(split) for name, split in split_of.items()}
    splits = np.array([order_of.get(name, -1) for name in classes])
    # The index is sorted by name and lexsort is stable. Classes that no split wants are left out.
    rows = np.lexsort((labels, splits))
    rows = rows[splits[rows] >= 0]
    index = index.append_column("label", pa.array(labels))
    groups = [split_of.get(name) for name in classes]
    given = index["split"].to_pylist()
    sides = [s if g == "test" and s in RETRIEVAL else g for s, g in zip(given, groups, strict=True)]
    index = index.set_column(index.column_names.index("split"), "split", pa.array(sides))
    return index.append_column("group", pa.array(groups)).take(rows)


def _prepared(plan: pa.Table, raw: Path, short_side: int, quality: int) -> Iterator[dict[str, Any]]:
    """The rows of `plan` in order, each with the columns of PREPARED_SCHEMA."""
    blocks = [plan.slice(start, BLOCK_ROWS) for start in range(0, len(plan), BLOCK_ROWS)]
    prepare = partial(prepare_rows, raw=raw, short_side=short_side, quality=quality)
    with ordered_and_quiet(), tqdm(total=len(plan), desc="preprocess", disable=None) as bar:
        dataset = ray.data.from_arrow(blocks).map_batches(
            prepare, batch_size=None, batch_format="pyarrow"
        )
        table: pa.Table
        for table in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
            yield from table.to_pylist()
            bar.update(len(table))


def prepare_rows(rows: pa.Table, raw: Path, short_side: int, quality: int) -> pa.Table:
    """Read, check and decode the images that `rows` of an index describe; runs on a worker.

    `raw` is the folder that relative file names start from. Returns `rows` with the columns of
    PREPARED_SCHEMA added; where `why` is not null, the image is.
    """
    prepared = []
    for row in rows.to_pylist():
        data = _read(raw / row["file"], row["offset"], row["size"])
        if data is None or hashlib.sha256(data).hexdigest() != row["sha256"]:
            prepared.append({"why": CHANGED})
            continue
        try:
            image = prepare_image(data, short_side, quality)
        except BadImage as bad:
            prepared.append({"why": str(bad)})
            continue
        fields = image._asdict()
        prepared.append({"image": fields.pop("data"), **fields})
    added = pa.Table.from_pylist(prepared, schema=PREPARED_SCHEMA)
    for name in added.column_names:
        rows = rows.append_column(name, added[name])
    return rows


def _read(path: Path, offset: int, size: int) -> bytes | None:
    try:
        with path.open("rb", buffering=0) as stream:
            stream.seek(offset)
            return stream.read(size)
    except FileNotFoundError:
        return None


class _ShardWriter:
    """Writes rows to `<group>-<number>.parquet`, `rows_per_shard` to a file, in their order."""

    def __init__(self, folder: Path, rows_per_shard: int) -> None:
        if rows_per_shard < 1:
            raise UserError(f"preprocess.rows_per_shard is {rows_per_shard}; accepted: 1 or more.")
        self.folder, self.rows_per_shard = folder, rows_per_shard
        self.rows: list[dict[str, Any]] = []
        self.group = ""
        self.shards: list[dict[str, Any]] = []

    def add(self, row: dict[str, Any]) -> None:
        if row["group"] != self.group or len(self.rows) == self.rows_per_shard:
            self.flush()
            self.group = row["group"]
        self.rows.append({name: row[name] for name in SHARD_SCHEMA.names})

    def flush(self) -> None:
        if not self.rows:
            return
        number = sum(shard["file"].startswith(f"{self.group}-") for shard in self.shards)
        path = self.folder / f"{self.group}-{number:05d}.parquet"
        table = pa.Table.from_pylist(self.rows, schema=SHARD_SCHEMA)
        # Images are compressed already, and each is different: no dictionary, no second try.
        texts = [name for name in SHARD_SCHEMA.names if name != "image"]
        compression = {name: "none" if name == "image" else "zstd" for name in SHARD_SCHEMA.names}
        pq.write_table(table, path, compression=compression, use_dictionary=texts)
        with path.open("rb") as stream:
            digest = hashlib.sha256(stream.read()).hexdigest()
        self.shards.append({"file": path.name, "rows": len(self.rows), "sha256": digest})
        self.rows = []

    def close(self) -> list[dict[str, Any]]:
        self.flush()
        return self.shards
