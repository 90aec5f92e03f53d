"""Some columns of a CSV or Parquet file, found by name: as text, or numbers where wanted."""

import csv
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rhs.data.image_formats import IMAGE_ENDINGS, ending
from rhs.datasets.csv_text import Text, read_text, rows_of
from rhs.errors import UserError

ACCEPTED = "a .csv, .tsv or .txt (a first line of column names) or .parquet file"
TEXT_ENDINGS = (".csv", ".tsv", ".tab", ".txt")


def read_columns(
    file: Path,
    wanted: dict[str, str],
    optional: tuple[str, ...] = (),
    encoding: str | None = None,
) -> pa.Table:
    """The columns of `file` that `wanted` names, under its keys.

    All but numbers of a Parquet file is text, so that a label 001 stays 001. White space around the
    names in the file does not count.

    Args:
        wanted: "path", "label", "split" (settings dataset.fetch.<key>) or "0", "1", ... (values,
            which may be numbers) -> the name of a column.
        optional: keys whose columns need not be there; they are absent from the table then.
        encoding: of text that is neither UTF-8 nor has a byte order mark.

    Raises:
        UserError: no such file, it cannot be read or has no rows, a column is missing (one that
            differs in case is), there twice or of the wrong kind.
    """
    if not file.is_file():
        what = "is not a file" if file.exists() else "does not exist"
        raise UserError(f"dataset.source {file} {what}; accepted: {ACCEPTED}.")
    try:
        if _is_parquet(file):
            places = _places(file, pq.read_schema(file).names, wanted, optional)
            columns = _from_parquet(file, places)
        else:
            needed = {name.casefold() for key, name in wanted.items() if key not in optional}
            text = read_text(file, encoding, lambda names: needed <= {_plain(n) for n in names})
            places = _places(file, text.names, wanted, optional)
            columns = _from_csv(file, places, text)
    except (pa.ArrowException, csv.Error, UnicodeDecodeError, OSError) as error:
        why = " ".join(str(error).split())[:200]
        raise UserError(f"{file} cannot be read ({why}); accepted: {ACCEPTED}.") from None
    table = pa.table({key: _typed(file, columns[key], wanted[key], key) for key in places})
    if not len(table):
        raise UserError(f"{file} has no rows below the column names.")
    return table


def _is_parquet(file: Path) -> bool:
    """Whether it is a Parquet file, by its first bytes, whatever its name.

    Raises:
        UserError: its name is that of no table.
    """
    with file.open("rb") as stream:
        magic = stream.read(4)
    kind = ending(file.name)
    if kind not in (".parquet", ".pq", *TEXT_ENDINGS) and magic != b"PAR1":
        if kind not in (".json", ".jsonl", ".ndjson", ".xlsx", ".xls"):  # said in more words
            raise UserError(f"dataset.source is {str(file)!r}; accepted: {ACCEPTED}.")
        return False
    return magic == b"PAR1" or kind in (".parquet", ".pq")


def _plain(name: str) -> str:
    return name.strip().casefold()


def _places(
    file: Path, names: list[str], wanted: dict[str, str], optional: tuple[str, ...]
) -> dict[str, int]:
    """Key -> the number of its column, from 0."""
    stripped = [name.strip() for name in names]
    places = {}
    for key, name in wanted.items():
        same = [n for n in names if n.strip().casefold() == name.casefold()]
        if stripped.count(name) == 1:
            places[key] = stripped.index(name)
        elif same or key not in optional:
            raise UserError(_not_one(file, names, key, name, same))
    return places


def _not_one(file: Path, names: list[str], key: str, name: str, same: list[str]) -> str:
    """Why there is not one column `name`; `same` are those that are but for case and space."""
    setting = f"dataset.fetch.{key if key.isalpha() else 'values'}"
    if (times := [n.strip() for n in names].count(name)) > 1:
        return f"{file} has {times} columns {name!r} ({setting}); one is needed."
    if same:
        return (
            f"{file} has no column {name!r} ({setting}), but {same[0]!r}: rename it, or give "
            f"{setting} that name."
        )
    has = ", ".join(repr(n[:40]) for n in names[:8]) + (", ..." if len(names) > 8 else "")
    hint = "; columns are separated by commas, semicolons or tabs" if len(names) == 1 else ""
    if any(ending(n.strip()) in IMAGE_ENDINGS or "/" in n for n in names):
        hint = "; the first line is a row, and has to name the columns (path,label)"
    return f"{file} has no column {name!r} ({setting}); it has {has or 'none'}{hint}."


def _from_parquet(file: Path, places: dict[str, int]) -> dict[str, pa.ChunkedArray]:
    names = pq.read_schema(file).names
    table = pq.read_table(file, columns=sorted({names[place] for place in places.values()}))
    return {key: table[names[place]] for key, place in places.items()}


def _from_csv(file: Path, places: dict[str, int], text: Text) -> dict[str, pa.ChunkedArray]:
    columns: dict[str, list[str]] = {key: [] for key in places}
    # Not pyarrow's reader: where a quote is not closed, it takes the rest of the file for one cell.
    for number, (line, row) in enumerate(rows_of(file, text)):
        if len(row) != len(text.names):
            raise UserError(
                f"Row {number} of {file} (line {line}) has {len(row)} cells; accepted: "
                f"{len(text.names)}, as there are column names."
            )
        for key, place in places.items() if number else ():
            columns[key].append(row[place])
    return {key: pa.chunked_array([cells], pa.string()) for key, cells in columns.items()}


def _typed(file: Path, column: pa.ChunkedArray, name: str, key: str) -> pa.ChunkedArray:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind, number = column.type, not key.isalpha()
    text = any(f(kind) for f in (pa.types.is_string, pa.types.is_large_string))
    text = text or pa.types.is_string_view(kind)
    if number and (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        return column.cast(pa.float64(), safe=False)
    if key == "label" and pa.types.is_floating(kind):
        column = _whole(column)  # as pandas writes whole numbers where one is missing
        kind = column.type
    if text or pa.types.is_null(kind) or (key == "label" and pa.types.is_integer(kind)):
        return column.cast(pa.string())
    accepted = "numbers" if number else "text or whole numbers" if key == "label" else "text"
    raise UserError(f"Column {name!r} of {file} is of the type {kind}; accepted: {accepted}.")


def _whole(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Numbers without a fraction as integers, not-a-number as null; others as they are."""
    numbers = column.cast(pa.float64())
    numbers = pc.if_else(pc.is_nan(numbers), None, numbers)
    whole = pc.all(pc.equal(numbers, pc.floor(numbers)), min_count=0).as_py()
    exact = (pc.max(pc.abs(numbers)).as_py() or 0) < 2**53
    return numbers.cast(pa.int64()) if whole and exact else column
