"""Your own images as a table: a CSV or Parquet file with a path and a label in every row."""

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from tqdm import tqdm

from rhs.data.image_formats import RAW_ENDINGS, ending, not_read
from rhs.datasets.download.downloads import Downloads
from rhs.datasets.raw_folder import ImageFile, Refused, write_raw
from rhs.datasets.table_columns import read_columns
from rhs.datasets.table_labels import SETTING as EMPTY
from rhs.datasets.table_labels import alike, empty_words
from rhs.datasets.table_paths import Paths
from rhs.datasets.table_rows import Row, is_empty, read_rows
from rhs.errors import UserError
from rhs.paths import locate
from rhs.storage.atomic import atomic_folder
from rhs.storage.csv_lists import Lists, lists
from rhs.storage.digest import file_digest
from rhs.storage.outputs import RAW


def fetch(
    out: Path,
    source: str,
    downloads: Downloads,
    *,
    path: str = "path",
    label: str = "label",
    split: str | None = "split",
    values: Sequence[str] = (),
    root: str | None = None,
    encoding: str | None = None,
    empty: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Index the images that the table `source` lists into the raw folder `out`.

    The images stay where they are. Rows that cannot be used (no label, no such file, no number, a
    path that is listed again) are refused and named; two rows that contradict each other about one
    path are both refused. refused.csv in `out` has them all, and respelled.csv the files that were
    found by another spelling (`rhs.datasets.table_paths`); both are beside `out` after an error.

    Args:
        downloads: not used; nothing of this comes from the network.
        path, label, split: names of columns. The split is train, val, test, query or gallery; a
            table without a column "split" leaves the split to the other settings.
        values: names of the columns of continuous labels.
        root: the folder that relative paths start from; None: the table's.
        encoding: of a CSV that is not UTF-8 and has no byte order mark, as "cp1252".
        empty: words that mean no label, beside an empty cell; None: NA, NaN, None and the like.

    Returns:
        What `out/source.json` says.

    Raises:
        UserError: no such table, a column is missing or of the wrong kind, an unknown split, fewer
            than four classes.
    """
    file = locate(source)
    wanted = _wanted(path, label, split, values)
    folder = _root(root) or file.parent
    words = empty_words(empty)
    columns = read_columns(file, wanted, ("split",) if split == "split" else (), encoding)
    rows, refused = read_rows(file, columns, [wanted[str(i)] for i in range(len(values))], words)
    notes = {"rows": len(columns), **_split_note(columns, wanted.get("split"), words)}
    found, missing = _found(rows, folder)
    rows, repeated = _once(rows, found)
    with atomic_folder(out, RAW) as raw, lists(out, raw) as named:
        images, unreadable = _images(rows, found)
        refused += missing + repeated + unreadable
        named.rows["refused"] = [Refused._fields, *sorted(refused)]
        named.rows["respelled"] = _respelled(rows, found, folder)
        _tell(named, refused, images)
        return write_raw(raw, out.name, source, images, refused=refused, notes=notes)


def _root(root: str | None) -> Path | None:
    """The folder that `root` names, if it names one; raises UserError if that is none."""
    if root is None or root == "":
        return None
    folder = locate(str(root))
    if not folder.is_dir():
        raise UserError(f"dataset.fetch.root {root} does not exist or is no folder.")
    return folder


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


def _split_note(columns: pa.Table, split: str | None, words: frozenset[str]) -> dict[str, str]:
    """What is said where the classes' halves stand in for a column that was asked for."""
    if split is None:
        return {}
    if "split" not in columns.column_names:
        what = f"no column {split!r}"
    elif all(is_empty(cell, words) for cell in columns["split"].to_pylist()):
        what = f"nothing in the column {split!r}"
    else:
        return {}
    note = f"{what}: classes are split by name"
    print(f"table: {note}, or as dataset.train_classes and dataset.test_classes say", flush=True)
    return {"split": note}


def _tell(named: Lists, refused: Sequence[Refused], images: Sequence[ImageFile]) -> None:
    """A line on each thing that a person may have meant otherwise."""
    if like := sum(entry.why.startswith("no label: '") for entry in refused):
        print(
            f"table: {like} labels are words like NA or None, and taken for none; "
            f"{EMPTY}=[] makes classes of them",
            flush=True,
        )
    if respelled := len(named.rows["respelled"]) - 1:
        print(
            f"table: {respelled} files were found by another spelling of their paths; all are in "
            f"{named.inside('respelled')}",
            flush=True,
        )
    if said := alike(image.class_name for image in images):
        print(f"table: {said}", flush=True)


def _found(rows: list[Row], folder: Path) -> tuple[dict[int, str], list[Refused]]:
    """Number of a row -> its file; and the rows that have none."""
    paths, found, refused = Paths(folder), {}, []
    for row in rows:
        name = os.path.normpath(row.path)
        try:
            found[row.number] = paths.find(row.path)
        except FileNotFoundError as error:
            refused.append(Refused(name, f"missing: row {row.number} names it, but {error}"))
        except OSError as error:
            refused.append(Refused(name, f"unreadable: {error.strerror}"))
    return found, refused


def _respelled(rows: list[Row], found: dict[int, str], folder: Path) -> list[Sequence[object]]:
    """The rows whose file is not at the path that they give, as a list for people."""
    plain = {row.number: os.path.abspath(folder / row.path) for row in rows}
    others = [row for row in rows if found[row.number] != plain[row.number]]
    return [("row", "path", "file"), *((row.number, row.path, found[row.number]) for row in others)]


def _once(rows: list[Row], found: dict[int, str]) -> tuple[list[Row], list[Refused]]:
    """The rows whose file no other row has, and the first of those that say the same."""
    by_file: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.number in found:
            by_file[found[row.number]].append(row)
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


def _images(rows: list[Row], found: dict[int, str]) -> tuple[list[ImageFile], list[Refused]]:
    """The images of rows, whose files `found` gives by the row's number, and the unreadable."""
    images, refused = [], []
    for row in tqdm(rows, "table", unit=" images", disable=None):
        image = _image(row, found[row.number])
        if isinstance(image, ImageFile):
            images.append(image)
        else:
            refused.append(image)
    return images, refused


def _image(row: Row, found: str) -> ImageFile | Refused:
    file, name = Path(found), os.path.normpath(row.path)
    if ending(found) in RAW_ENDINGS:
        return Refused(name, not_read("camera raw"))
    try:
        if not file.is_file():
            return Refused(name, "not a regular file")
        size, digest = file.stat().st_size, file_digest(file)
    except OSError as error:
        return Refused(name, f"unreadable: {error.strerror}")
    position = (str(file), 0, size, digest)
    return ImageFile(name, row.label, *position, row.split, row.values)
