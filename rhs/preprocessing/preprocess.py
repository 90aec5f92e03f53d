"""Raw folder -> shards, on every CPU that Ray offers.

Workers read, check and decode; the driver alone writes, in the order of the index. The shards'
bytes are therefore the same on any number of workers.

Memory has a bound that neither the number of images nor their sizes move: a worker holds one image
and CHUNK_BYTES of prepared ones, Ray IN_FLIGHT_BYTES of what is on its way to the driver, and the
driver one row group. The largest images (see `rhs.preprocessing.prepare_rows.LARGE`) are decoded
one at a time on each machine.
"""

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from rhs.data.splits import (
    RETRIEVAL,
    SPLITS,
    Classes,
    check_validation,
    official_split,
    split_classes,
)
from rhs.datasets.raw_folder import read_raw
from rhs.errors import UserError
from rhs.preprocessing.image_counts import ImageCounts
from rhs.preprocessing.manifest import build_manifest, check_refused
from rhs.preprocessing.prepare_image import MAX_PIXELS
from rhs.preprocessing.prepare_rows import (
    CHANGED,
    check_ranges,
)
from rhs.preprocessing.ray_preprocessing import prepare_on_ray
from rhs.preprocessing.shard_writer import ShardWriter
from rhs.storage.atomic import atomic_folder
from rhs.storage.csv_lists import lists
from rhs.storage.outputs import SHARDS

CHOSEN = (
    "Classes that would be held out by their names, or be left to train on, have one image each: "
    "others were chosen, with which something can be measured."
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
    images = ImageCounts(description["refused"], chosen)
    how = {"short_side": short_side, "quality": quality, "max_pixels": max_pixels}
    with (
        atomic_folder(out, SHARDS) as folder,
        lists(out, folder) as named,
        ShardWriter(folder, rows_per_shard) as writer,
    ):
        for table in prepare_on_ray(plan, raw.resolve(), how):
            good = []
            for row in table.drop_columns(["image"]).to_pylist():
                why = _why_refused(row, ambiguous, description["source"])
                good.append(why is None)
                if why:
                    images.refuse({**row, "why": why})
                else:
                    images.keep(row, row["sha256"] in copies)
            writer.add(table if all(good) else table.filter(pa.array(good)))
        named.rows["refused"], named.rows["kept"] = images.refused_rows(), images.kept_rows()
        total = len(plan) + len(description["refused"])
        check_refused(images.refused, total, max_bad_fraction, named.beside("refused"))
        writer.close()
        manifest = build_manifest(
            description, class_names, split_of, images, writer.shards, settings
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
