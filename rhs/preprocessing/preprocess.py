"""Raw folder -> shards, on every CPU that Ray offers.

Workers read, check and decode; the driver alone writes, in the order of the index. The shards'
bytes are therefore the same on any number of workers.

Memory has a bound that neither the number of images nor their sizes move: a worker holds one image
and CHUNK_BYTES of prepared ones, Ray IN_FLIGHT_BYTES of what is on its way to the driver, and the
driver one row group. The largest images (see `rhs.preprocessing.prepare_rows.LARGE`) are decoded
one at a time on each machine.
"""

import json
import logging
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray.data
from ray.exceptions import RayError
from ray.util.annotations import RayDeprecationWarning
from tqdm import tqdm

from rhs.data.splits import (
    RETRIEVAL,
    SPLITS,
    Classes,
    check_validation,
    official_split,
    split_classes,
)
from rhs.datasets.raw_folder import read_raw
from rhs.distributed.ray_cluster import ordered_and_quiet
from rhs.distributed.worker_deaths import KILLED, MEMORY, NODE, PREPARING, death
from rhs.errors import UserError
from rhs.preprocessing.manifest import build_manifest, check_refused
from rhs.preprocessing.prepare_image import MAX_PIXELS
from rhs.preprocessing.prepare_rows import (
    CHANGED,
    CHUNK_BYTES,
    PREPARED_SCHEMA,
    check_ranges,
    prepare_rows,
)
from rhs.preprocessing.shard_writer import ShardWriter
from rhs.preprocessing.tally import Tally
from rhs.storage.atomic import atomic_folder
from rhs.storage.csv_lists import lists
from rhs.storage.outputs import SHARDS

BLOCK_ROWS, BLOCK_BYTES = 256, 2**24  # of a task: about a second of work on photographs
IN_FLIGHT_BYTES = 2**28
CHOSEN = (
    "Classes that would be held out by their names, or be left to train on, have one image each: "
    "others were chosen, with which something can be measured."
)
RETRIES = 2  # of a task whose process died
ENDS = {
    MEMORY: "ran out of memory",
    NODE: "was lost with its node",
    KILLED: f"died {RETRIES + 1} times; a file may crash its decoder, or memory is short",
}


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
    max_pixels: int = MAX_PIXELS,
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
        short_side, quality, max_pixels: see `prepare_image`.

    Returns:
        The manifest (`rhs.preprocessing.manifest` lists its fields).

    Raises:
        UserError: a setting is out of range, more than `max_bad_fraction` of the images refused
            (all of them are in <out>.refused.csv then), the source changed since fetch, or the
            classes cannot be split. `out` is as it was.
    """
    settings = {k: v for k, v in locals().items() if k not in ("raw", "out")}
    check_settings(settings)
    index, description = read_raw(raw)
    class_names = sorted(set(index["class_name"].to_pylist()))
    doubtful = _in_several_classes(index) if across_classes == "refuse" else {}
    split_of, chosen = _split_of(index, doubtful, train_classes, test_classes, validation)
    plan = _plan(index, class_names, split_of)
    copies = _in_several_classes(plan)
    ambiguous = copies if across_classes == "refuse" else {}
    tally = Tally(description["refused"], chosen)
    how = {"short_side": short_side, "quality": quality, "max_pixels": max_pixels}
    with (
        atomic_folder(out, SHARDS) as folder,
        lists(out, folder) as named,
        ShardWriter(folder, rows_per_shard) as writer,
    ):
        for table in _prepared(plan, raw.resolve(), how):
            kept = []
            for row in table.drop_columns(["image"]).to_pylist():
                why = _why_refused(row, ambiguous, description["source"])
                kept.append(why is None)
                if why:
                    tally.refuse({**row, "why": why})
                else:
                    tally.keep(row, row["sha256"] in copies)
            writer.add(table if all(kept) else table.filter(pa.array(kept)))
        named.rows["refused"], named.rows["kept"] = tally.refused_rows(), tally.kept_rows()
        total = len(plan) + len(description["refused"])
        check_refused(tally.refused, total, max_bad_fraction, named.beside("refused"))
        writer.close()
        manifest = build_manifest(
            description, class_names, split_of, tally, writer.shards, settings
        )
        text = json.dumps(manifest, indent=1, ensure_ascii=False)
        (folder / "manifest.json").write_text(text + "\n", encoding="utf-8")
    return manifest


def check_settings(settings: dict[str, Any]) -> None:
    """Raises UserError unless these settings of `preprocess` are in range.

    The classes are not looked at: that takes the data set.
    """
    check_ranges(settings)
    check_validation(settings.get("validation", 0))
    if (copies := settings.get("across_classes", "keep")) not in ("refuse", "keep"):
        raise UserError(f"dataset.copies_across_classes is {copies!r}; accepted: refuse, keep.")


def _split_of(
    index: pa.Table,
    doubtful: dict[str, set[str]],
    train_classes: Classes,
    test_classes: Classes,
    validation: float,
) -> tuple[dict[str, str], str]:
    """Class name -> "train", "val" or "test", and what is to be said of how they were chosen."""
    classes, splits = index["class_name"].to_pylist(), index["split"].to_pylist()
    official = official_split(classes, splits)
    if (train_classes or test_classes) and set(RETRIEVAL) & set(splits):
        raise UserError(
            "dataset.train_classes and dataset.test_classes must be null: this data set says which "
            "images are queries and which the gallery."
        )
    given = (classes, train_classes, test_classes, validation, official)
    rows = zip(classes, index["sha256"].to_pylist(), strict=True)
    sizes = Counter(name for name, sha256 in rows if sha256 not in doubtful)
    split_of = split_classes(*given, sizes)
    by_name = split_classes(*given)
    return split_of, "" if split_of == by_name else CHOSEN


def _why_refused(row: dict[str, Any], copies: dict[str, set[str]], source: str) -> str | None:
    if row["why"] == CHANGED:
        raise UserError(
            f"{row['name']} of {source} changed, went away or may no longer be read since it was "
            "fetched: run the fetch stage again."
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


def _prepared(plan: pa.Table, raw: Path, how: dict[str, int]) -> Iterator[pa.Table]:
    """The rows of `plan` in order, in tables that have the columns of PREPARED_SCHEMA too."""
    done = 0
    with ordered_and_quiet(), tqdm(total=len(plan), desc="preprocess", disable=None) as bar:
        context = ray.data.DataContext.get_current()
        context.target_max_block_size = CHUNK_BYTES
        context.execution_options.resource_limits = ray.data.ExecutionResources(
            object_store_memory=IN_FLIGHT_BYTES
        )
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # a failure is told below
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RayDeprecationWarning)  # of max_retries
            dataset = ray.data.from_arrow(_blocks(plan)).map_batches(
                partial(prepare_rows, raw=raw, **how),
                batch_size=None,
                batch_format="pyarrow",
                max_retries=RETRIES,  # Ray Data would never give up
            )
        try:
            for table in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
                yield _joined(plan, table, done)
                done += len(table)
                bar.update(len(table))
        except (RayError, MemoryError) as error:
            end = MEMORY if isinstance(error, MemoryError) else death(error)
            if end is None:
                raise
            name = plan["name"][min(done, len(plan) - 1)].as_py()
            raise UserError(
                f"A process that prepared images {ENDS[end]}. {done} of {len(plan)} images were "
                f"done; it was at {name} or shortly after. Less memory is needed with {PREPARING}."
            ) from error


def _blocks(plan: pa.Table) -> list[pa.Table]:
    """What each task needs to know, in order: at most BLOCK_ROWS images or about BLOCK_BYTES."""
    needed = plan.select(["name", "file", "offset", "size", "sha256"])
    needed = needed.append_column("row", pa.array(np.arange(len(plan))))
    blocks, start, held = [], 0, 0
    for row, size in enumerate([*plan["size"].to_pylist(), BLOCK_BYTES]):
        if row - start == BLOCK_ROWS or held + size > BLOCK_BYTES or row == len(plan):
            if row > start:
                blocks.append(needed.slice(start, row - start))
            start, held = row, 0
        held += size
    return blocks


def _joined(plan: pa.Table, prepared: pa.Table, start: int) -> pa.Table:
    """The rows of `plan` from `start` on with what became of them."""
    rows = prepared["row"].to_numpy()
    assert np.array_equal(rows, np.arange(start, start + len(rows))), "Ray changed the order"
    table = plan.slice(start, len(rows))
    for name in PREPARED_SCHEMA.names[1:]:
        table = table.append_column(name, prepared[name])
    return table
