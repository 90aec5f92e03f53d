"""The rows of a table of images: which can be used, and why others cannot."""

import math
import unicodedata
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from rhs.data.splits import RETRIEVAL, SPLITS
from rhs.datasets.raw_folder import Refused
from rhs.datasets.split_folders import WORDS
from rhs.datasets.table_labels import SETTING as EMPTY
from rhs.errors import UserError

KNOWN_SPLITS = (*SPLITS, *RETRIEVAL)


class Row(NamedTuple):
    """One row; `number` counts from 1, without the line of column names."""

    number: int
    path: str  # as the table has it, without white space around it
    label: str
    split: str  # "" where the table has none
    values: tuple[float, ...] | None


def is_empty(cell: str | None, words: frozenset[str]) -> bool:
    """Whether a cell is blank, or one of the words that mean nothing."""
    cell = (cell or "").strip().lower()
    return not cell or cell in words


def read_rows(
    file: Path, table: pa.Table, values: list[str], words: frozenset[str]
) -> tuple[list[Row], list[Refused]]:
    """The rows that can be used as far as the table tells, and the others.

    Args:
        table: columns "path", "label", perhaps "split", and "0", "1", ... of values.
        values: what those are called in the file.
        words: see `rhs.datasets.table_labels.empty_words`.

    Raises:
        UserError: an unknown split, a path or label of more than one line.
    """
    rows, refused = [], []
    empty = [""] * len(table)
    columns = [table[name].to_pylist() for name in ("path", "label")]
    columns.append(table["split"].to_pylist() if "split" in table.column_names else empty)
    has_splits = not all(is_empty(name, words) for name in columns[2])
    numbers = [table[str(i)].to_pylist() for i in range(len(values))]
    for number, (path, label, split) in enumerate(zip(*columns, strict=True), 1):
        split = "" if is_empty(split, words) else _split(split, number, file)
        if "\n" in f"{path}{label}":
            raise UserError(f"Row {number} of {file} has a path or label of more than one line.")
        path = "" if is_empty(path, words) else path.strip()
        label = unicodedata.normalize("NFC", (label or "").strip())
        continuous = [_number(column[number - 1]) for column in numbers]
        wrong = [i for i, value in enumerate(continuous) if value is None]
        name = path or f"row {number}"
        if not path or "\0" in path:
            refused.append(Refused(f"row {number}", "no path"))
        elif not label:
            refused.append(Refused(name, f"no label: in row {number}"))
        elif label.lower() in words:
            why = f"no label: {label!r} in row {number} ({EMPTY}=[] makes it a class)"
            refused.append(Refused(name, why))
        elif has_splits and not split:
            refused.append(Refused(name, f"no split: in row {number}, though others have one"))
        elif wrong:
            said = f"{values[wrong[0]]} is {numbers[wrong[0]][number - 1]!r} in row {number}"
            refused.append(Refused(name, f"no number: {said}"))
        else:
            numbered = tuple(value for value in continuous if value is not None)
            rows.append(Row(number, path, label, split, numbered or None))
    return rows, refused


def _split(cell: str, number: int, file: Path) -> str:
    """One of KNOWN_SPLITS; raises UserError where a row names another."""
    name = cell.strip().lower()
    split = WORDS.get(name, name)
    if split not in ("", *KNOWN_SPLITS):
        raise UserError(
            f"Row {number} of {file} has the split {split!r}; accepted: {', '.join(KNOWN_SPLITS)}."
        )
    return split


def _number(value: str | float | None) -> float | None:
    if isinstance(value, str):
        if "_" in value or not value.isascii():  # float("1_000") is a number in Python alone
            return None
        try:
            value = float(value)
        except ValueError:
            return None
    return value if value is not None and math.isfinite(value) else None
