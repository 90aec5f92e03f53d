"""Some columns of a CSV or Parquet file, found by name: as text, or numbers where wanted."""

import csv
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from rhs.errors import UserError

ACCEPTED = "a .csv (commas, UTF-8, a first line of column names) or .parquet file"


def read_columns(file: Path, wanted: dict[str, str], optional: tuple[str, ...] = ()) -> pa.Table:
    """The columns of `file` that `wanted` names, under its keys.

    All but numbers of a Parquet file is text, so that a label 001 stays 001. White space around the
    names in the file does not count.

    Args:
        wanted: "path", "label", "split" (settings dataset.fetch.<key>) or "0", "1", ... (values,
            which may be numbers) -> the name of a column.
        optional: keys whose columns need not be there; they are absent from the table then.

    Raises:
        UserError: no such file, it cannot be read or has no rows, a column is missing (one that
            differs in case is), there twice or of the wrong kind.
    """
    kind = file.suffix.lower()
    if kind not in (".csv", ".parquet"):
        raise UserError(f"dataset.source is {str(file)!r}; accepted: {ACCEPTED}.")
    if not file.is_file():
        what = "is not a file" if file.exists() else "does not exist"
        raise UserError(f"dataset.source {file} {what}; accepted: {ACCEPTED}.")
    try:
        places = _places(file, _names(file, kind), wanted, optional)
        columns = (_from_parquet if kind == ".parquet" else _from_csv)(file, places)
    except (pa.ArrowException, csv.Error, UnicodeDecodeError, OSError) as error:
        why = " ".join(str(error).split())[:200]
        raise UserError(f"{file} cannot be read ({why}); accepted: {ACCEPTED}.") from None
    table = pa.table({key: _typed(file, columns[key], wanted[key], key) for key in places})
    if not len(table):
        raise UserError(f"{file} has no rows below the column names.")
    return table


def _names(file: Path, kind: str) -> list[str]:
    if kind == ".parquet":
        return pq.read_schema(file).names
    with file.open(encoding="utf-8-sig", newline="") as stream:
        return next(csv.reader(stream, strict=True), [])


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
    hint = "; columns are separated by commas" if len(names) == 1 else ""
    return f"{file} has no column {name!r} ({setting}); it has {has or 'none'}{hint}."


def _from_parquet(file: Path, places: dict[str, int]) -> dict[str, pa.ChunkedArray]:
    names = pq.read_schema(file).names
    table = pq.read_table(file, columns=sorted({names[place] for place in places.values()}))
    return {key: table[names[place]] for key, place in places.items()}


def _from_csv(file: Path, places: dict[str, int]) -> dict[str, pa.ChunkedArray]:
    columns: dict[str, list[str]] = {key: [] for key in places}
    # Not pyarrow's reader: where a quote is not closed, it takes the rest of the file for one cell.
    with file.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.reader(stream, strict=True)
        header = next(reader)
        for number, row in enumerate(filter(None, reader), 1):
            if len(row) != len(header):
                raise UserError(
                    f"Row {number} of {file} (line {reader.line_num}) has {len(row)} cells; "
                    f"accepted: {len(header)}, as there are column names."
                )
            for key, place in places.items():
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
    if text or pa.types.is_null(kind) or (key == "label" and pa.types.is_integer(kind)):
        return column.cast(pa.string())
    accepted = "numbers" if number else "text or whole numbers" if key == "label" else "text"
    raise UserError(f"Column {name!r} of {file} is of the type {kind}; accepted: {accepted}.")
