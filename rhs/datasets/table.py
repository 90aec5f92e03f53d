"""Your own images as a table: a CSV or Parquet file with a path and a label in every row."""

import csv
import hashlib
import math
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from rhs.atomic import whole_folder
from rhs.data.splits import RETRIEVAL, SPLITS
from rhs.datasets.download import Downloads
from rhs.datasets.raw import ImageFile, Refused, write_raw
from rhs.errors import UserError

ACCEPTED = "a .csv (commas, UTF-8, a first line of column names) or .parquet file"
KNOWN_SPLITS = (*SPLITS, *RETRIEVAL)
CHUNK = 1 << 20  # bytes


class Row(NamedTuple):
    """One row; `number` counts from 1, without the line of column names."""

    number: int
    path: str  # as the table has it
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
    file = Path(source).expanduser()
    if isinstance(values, str) or not all(isinstance(name, str) for name in values):
        raise UserError(f"dataset.fetch.values is {values!r}; it must be a list of column names.")
    folder = Path(root).expanduser() if root else file.parent
    if not folder.is_dir():
        raise UserError(f"dataset.fetch.root {root} does not exist or is no folder.")
    columns = _read(file, path, label, split, list(values))
    rows, refused = _rows(file, columns, list(values))
    rows, repeated = _once(rows, folder)
    with whole_folder(out) as raw:
        images: list[ImageFile] = []
        for row in tqdm(rows, "table", unit=" images", disable=None):
            image = _image(row, folder)
            if isinstance(image, ImageFile):
                images.append(image)
            else:
                refused.append(image)
        return write_raw(raw, out.name, source, images, refused + repeated, {"rows": len(columns)})


def _read(file: Path, path: str, label: str, split: str | None, values: list[str]) -> pa.Table:
    """The wanted columns under the names "path", "label", "split" and "0", "1", ...

    All but the values of a Parquet file are text, so that a label 001 stays 001.
    """
    kind = file.suffix.lower()
    if kind not in (".csv", ".parquet"):
        raise UserError(f"dataset.source is {str(file)!r}; accepted: {ACCEPTED}.")
    if not file.is_file():
        raise UserError(f"dataset.source {file} does not exist; accepted: {ACCEPTED}.")
    try:
        names = _names(file, kind)
        wanted = {"path": path, "label": label}
        if split and (split in names or split != "split"):
            wanted["split"] = split
        wanted |= {str(i): name for i, name in enumerate(values)}
        _check_names(file, names, wanted)
        table = _columns(file, kind, sorted(set(wanted.values())))
    except (pa.ArrowException, csv.Error, UnicodeDecodeError, OSError) as error:
        why = " ".join(str(error).split())[:200]
        raise UserError(f"{file} cannot be read ({why}); accepted: {ACCEPTED}.") from None
    if not len(table):
        raise UserError(f"{file} has no rows below the column names.")
    columns = {key: _typed(file, table[name], name, key) for key, name in wanted.items()}
    return pa.table(columns)


def _names(file: Path, kind: str) -> list[str]:
    if kind == ".parquet":
        return pq.read_schema(file).names
    with file.open(encoding="utf-8-sig", newline="") as stream:
        return next(csv.reader(stream, strict=True), [])


def _columns(file: Path, kind: str, names: list[str]) -> pa.Table:
    if kind == ".parquet":
        return pq.read_table(file, columns=names)
    columns: dict[str, list[str]] = {name: [] for name in names}
    # Not pyarrow's reader: where a quote is not closed, it takes the rest of the file for one cell.
    with file.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.reader(stream, strict=True)
        header = next(reader)
        places = [(cells, header.index(name)) for name, cells in columns.items()]
        for number, row in enumerate(filter(None, reader), 1):
            if len(row) != len(header):
                raise UserError(
                    f"Row {number} of {file} (line {reader.line_num}) has {len(row)} cells; "
                    f"accepted: {len(header)}, as there are column names."
                )
            for cells, place in places:
                cells.append(row[place])
    return pa.table({name: pa.array(cells, pa.string()) for name, cells in columns.items()})


def _check_names(file: Path, names: list[str], wanted: dict[str, str]) -> None:
    for key, name in wanted.items():
        if names.count(name) == 1:
            continue
        setting = f"dataset.fetch.{key if key.isalpha() else 'values'}"
        has = ", ".join(repr(n[:40]) for n in names[:8]) + (", ..." if len(names) > 8 else "")
        often = f"{names.count(name)} columns" if names.count(name) else "no column"
        hint = "; columns are separated by commas" if len(names) == 1 else ""
        raise UserError(f"{file} has {often} {name!r} ({setting}); it has {has or 'none'}{hint}.")


def _typed(file: Path, column: pa.ChunkedArray, name: str, key: str) -> pa.ChunkedArray:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind, number = column.type, not key.isalpha()
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if number and (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        return column.cast(pa.float64(), safe=False)
    if text or pa.types.is_null(kind) or (key == "label" and pa.types.is_integer(kind)):
        return column.cast(pa.string())
    accepted = "numbers" if number else "text or whole numbers" if key == "label" else "text"
    raise UserError(f"Column {name!r} of {file} is of the type {kind}; accepted: {accepted}.")


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
        continuous = [_number(column[number - 1]) for column in numbers]
        wrong = [i for i, value in enumerate(continuous) if value is None]
        name = path or f"row {number}"
        if not path or not path.strip() or "\0" in path:
            refused.append(Refused(f"row {number}", "no path"))
        elif not label or not label.strip():
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
    try:
        number = float(value or "nan") if isinstance(value, str) else value
    except ValueError:
        return None
    return number if number is not None and math.isfinite(number) else None


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
