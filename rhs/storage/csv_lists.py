"""Lists for people: CSV files that any spreadsheet opens, and that survive a stage's refusal."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rhs.errors import UserError


class Lists:
    """Lists of the folder `out`, which is being written.

    Attributes:
        rows: name -> the lines of a list, the first of them its header.
    """

    def __init__(self, out: Path) -> None:
        self._out = out
        self.rows: dict[str, list[Sequence[object]]] = {}

    def inside(self, name: str) -> Path:
        """Where a list is, once `out` is written."""
        return self._out / f"{name}.csv"

    def beside(self, name: str) -> Path:
        """Where a list is if `out` is not written."""
        return self._out.with_name(f"{self._out.name}.{name}.csv")


@contextmanager
def lists(out: Path, folder: Path) -> Iterator[Lists]:
    """Write the lists that the block fills: into `folder`, or, on a UserError, beside `out`.

    `folder` becomes `out` later (`rhs.storage.atomic.atomic_folder`). Empty lists are not written;
    what an earlier refusal left beside `out` is removed.
    """
    written = Lists(out)
    try:
        yield written
    except UserError:
        for name, rows in written.rows.items():
            write_list(written.beside(name), rows)
        raise
    for name, rows in written.rows.items():
        written.beside(name).unlink(missing_ok=True)
        write_list(folder / f"{name}.csv", rows)


def write_list(path: Path, rows: Sequence[Sequence[object]]) -> None:
    """Write rows, the first of them the header; nothing if there is no other."""
    if len(rows) > 1:
        with path.open("w", newline="", encoding="utf-8-sig", errors="backslashreplace") as stream:
            csv.writer(stream).writerows([safe_cell(cell) for cell in row] for row in rows)


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """Rows, the first of them the header, as CSV for programs and for people."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([safe_cell(cell) for cell in row] for row in rows)
    return text.getvalue()


def safe_cell(cell: object) -> object:
    """A cell that no spreadsheet takes for a formula: a name may begin with "="."""
    if not isinstance(cell, str):
        return cell
    formula = cell.lstrip()[:1] in tuple("=+-@") or cell[:1] in tuple("\t\r\n")
    return f"'{cell}" if formula else cell
