"""Your own images as a table: a CSV or Parquet file with a path and a label in every row."""

import hashlib
import math
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from tqdm import tqdm

from rhs.data.splits import RETRIEVAL, SPLITS
from rhs.datasets.columns import read_columns
from rhs.datasets.download import Downloads
from rhs.datasets.raw import ImageFile, Refused, write_raw
from rhs.errors import UserError
from rhs.storage.atomic import whole_folder

KNOWN_SPLITS = (*SPLITS, *RETRIEVAL)
CHUNK = 1 << 20  # bytes


class Row(NamedTuple):
    """One row; `number` counts from 1, without the line of column names."""

    number: int
    path: str  # as the table has it, without white space around it
    label: str
    split: str  # "" where the table has none
    values: tuple[float, ...] | None


def fetch(
    out: Path,
    source: str,
    downloads: Downloads,
    path: str = "path",
    label: str = "label",
    split: str | None = "split",
    values: Sequence[str] = (),
    root: str | None = None,
) -> dict[str, Any]:
    """Index the images that the table `source` lists into the raw folder `out`.

    The images stay where they are. Rows that cannot be used (no label, no such file, no number, a
    path that is listed again) are refused and named; two rows that contradict each other about one
    path are both refused.

    Args:
        downloads: not used; nothing of this comes from the network.
        path, label, split: names of columns. The split is train, val, test, query or gallery; a
            table without a column "split" leaves the split to the other settings.
        values: names of the columns of continuous labels.
        root: the folder that relative paths start from; None: the table's.

    Returns:
        What `out/source.json` says.

    Raises:
        UserError: no such table, a column is missing or of the wrong kind, an unknown split, fewer
            than four classes.
    """
    file = Path(os.path.expanduser(source))
    wanted = _wanted(path, label, split, values)
    folder = file.parent if root is None or root == "" else Path(os.path.expanduser(str(root)))
    if folder != file.parent and not folder.is_dir():
        raise UserError(f"dataset.fetch.root {root} does not exist or is no folder.")
    columns = read_columns(file, wanted, optional=("split",) if split == "split" else ())
    rows, refused = _rows(file, columns, [wanted[str(i)] for i in range(len(values))])
    notes = {"rows": len(columns), **_split_note(columns, wanted.get("split"))}
    rows, repeated = _once(rows, folder)
    with whole_folder(out) as raw:
        images: list[ImageFile] = []
        for row in tqdm(rows, "table", unit=" images", disable=None):
            image = _image(row, folder)
            if isinstance(image, ImageFile):
                images.append(image)
            else:
                refused.append(image)
        return write_raw(raw, out.name, source, images, refused + repeated, notes)


def _wanted(path: object, label: object, split: object, values: object) -> dict[str, str]:
    """Key of `read_columns` -> name of the column."""
    if not isinstance(values, (list, tuple)):
        raise UserError(
            f"dataset.fetch.values is {values!r}; it must be a list of column names, [] for none."
        )
    wanted = {"path": _column_name("path", path), "label": _column_name("label", label)}
    if split is not None and split != "":
        wanted["split"] = _column_name("split", split)
    return wanted | {str(i): _column_name("values", name) for i, name in enumerate(values)}


def _column_name(setting: str, name: object) -> str:
    if isinstance(name, bool) or not isinstance(name, (str, int)) or not str(name).strip():
        raise UserError(f"dataset.fetch.{setting} is {name!r}; it must be the name of a column.")
    return str(name).strip()


def _split_note(columns: pa.Table, split: str | None) -> dict[str, str]:
    """What is said where the classes' halves stand in for a column that was asked for."""
    if split is None:
        return {}
    if "split" not in columns.column_names:
        what = f"no column {split!r}"
    elif not any(cell and cell.strip() for cell in columns["split"].to_pylist()):
        what = f"nothing in the column {split!r}"
    else:
        return {}
    note = f"{what}: classes are split by name"
    print(f"table: {note}, or as dataset.train_classes and dataset.test_classes say", flush=True)
    return {"split": note}


def _rows(file: Path, table: pa.Table, values: list[str]) -> tuple[list[Row], list[Refused]]:
    """The rows that can be used as far as the table tells, and the others."""
    rows, refused = [], []
    empty = [""] * len(table)
    columns = [table[name].to_pylist() for name in ("path", "label")]
    columns.append(table["split"].to_pylist() if "split" in table.column_names else empty)
    has_splits = any(name and name.strip() for name in columns[2])
    numbers = [table[str(i)].to_pylist() for i in range(len(values))]
    for number, (path, label, split) in enumerate(zip(*columns, strict=True), 1):
        split = (split or "").strip().lower()
        if split not in ("", *KNOWN_SPLITS):
            raise UserError(
                f"Row {number} of {file} has the split {split!r}; accepted: "
                f"{', '.join(KNOWN_SPLITS)}."
            )
        if "\n" in f"{path}{label}":
            raise UserError(f"Row {number} of {file} has a path or label of more than one line.")
        path, label = (path or "").strip(), (label or "").strip()
        continuous = [_number(column[number - 1]) for column in numbers]
        wrong = [i for i, value in enumerate(continuous) if value is None]
        name = path or f"row {number}"
        if not path or "\0" in path:
            refused.append(Refused(f"row {number}", "no path"))
        elif not label:
            refused.append(Refused(name, f"no label: in row {number}"))
        elif has_splits and not split:
            refused.append(Refused(name, f"no split: in row {number}, though others have one"))
        elif wrong:
            said = f"{values[wrong[0]]} is {numbers[wrong[0]][number - 1]!r} in row {number}"
            refused.append(Refused(name, f"no number: {said}"))
        else:
            numbered = tuple(value for value in continuous if value is not None)
            rows.append(Row(number, path, label, split, numbered or None))
    return rows, refused


def _number(value: str | float | None) -> float | None:
    if isinstance(value, str):
        if "_" in value or not value.isascii():  # float("1_000") is a number in Python alone
            return None
        try:
            value = float(value)
        except ValueError:
            return None
    return value if value is not None and math.isfinite(value) else None


def _once(rows: list[Row], folder: Path) -> tuple[list[Row], list[Refused]]:
    """The rows whose path no other row has, and the first of those that say the same."""
    by_file: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_file[os.path.abspath(folder / row.path)].append(row)
    kept, refused = [], []
    for first, *others in by_file.values():
        differing = [row for row in others if row[2:] != first[2:]]
        if not differing:
            kept.append(first)
            again = [
                (row, f"listed twice: in rows {first.number} and {row.number}") for row in others
            ]
        else:
            what = _difference(first, differing[0])
            again = [(row, f"contradicting rows: {what}") for row in (first, *others)]
        refused += [Refused(row.path, why) for row, why in again]
    return kept, refused


def _difference(first: Row, other: Row) -> str:
    fields = zip(Row._fields[2:], first[2:], other[2:], strict=True)
    field, a, b = next((f, a, b) for f, a, b in fields if a != b)
    return f"the {field} is {a!r} in row {first.number} and {b!r} in row {other.number}"


def _image(row: Row, folder: Path) -> ImageFile | Refused:
    file = Path(os.path.abspath(folder / row.path))
    name = os.path.normpath(row.path)
    try:
        if not file.exists():
            return Refused(name, f"missing: row {row.number} names it, and there is no such file")
        if not file.is_file():
            return Refused(name, "not a regular file")
        digest, size = hashlib.sha256(), 0
        with file.open("rb") as stream:
            while data := stream.read(CHUNK):
                digest.update(data)
                size += len(data)
    except OSError as error:
        return Refused(name, f"unreadable: {error.strerror}")
    position = (str(file), 0, size, digest.hexdigest())
    return ImageFile(name, row.label, *position, row.split, row.values)
