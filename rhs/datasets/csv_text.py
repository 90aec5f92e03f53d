"""The text of a CSV file as programs write it: its encoding and its separator, told from it."""

import codecs
import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from rhs.data.image_formats import HEAD, TAKEN, UNREAD, content
from rhs.errors import UserError

SEPARATORS = (",", ";", "\t", "|")
MARKS = (  # UTF-32 begins as UTF-16 does
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
LIKELY = {
    "cp1252": "Western Windows, Latin-1",
    "cp932": "Japanese, Shift-JIS",
    "gb18030": "Chinese",
}
SETTING = "dataset.fetch.encoding"
NO_TABLES = (
    (b"\xd0\xcf\x11\xe0", "an Excel file"),
    (b"SQLite format 3", "a database of SQLite"),
    (b"ARROW1", "a Feather file"),
    (b"ORC", "an ORC file"),
)


class Text(NamedTuple):
    """How to read a file."""

    encoding: str
    separator: str
    names: list[str]  # of the columns
    skipped: int  # lines before those


def read_text(file: Path, encoding: str | None, wanted: Callable[[list[str]], bool]) -> Text:
    """Find out how `file` is written.

    Args:
        encoding: of a file that is not UTF-8, and has no byte order mark; None: UTF-8.
        wanted: whether these are the names of the columns: the first separator that gives them
            is taken, a comma if none does.

    Raises:
        UserError: it is no text, or of another encoding.
    """
    with file.open("rb") as stream:
        head = stream.read(4096)
    if not head.strip():
        raise UserError(f"{file} is empty; a line of column names and rows are needed.")
    if said := _no_table(head):
        raise UserError(f"{file} is {said}.")
    encoding = _encoding(file, head, encoding)
    with opened(file, encoding) as stream:
        lines = [stream.readline(), stream.readline()]
    skipped = int(
        lines[0].lower().startswith("sep=") and len(lines[0].rstrip("\r\n")) == 5
    )  # Excel's
    ways = {}
    for separator in SEPARATORS:
        with opened(file, encoding) as stream:
            for _ in range(skipped):
                stream.readline()
            try:
                ways[separator] = next(csv.reader(stream, delimiter=separator, strict=True), [])
            except csv.Error:
                if separator == ",":
                    raise
    found = next((s for s, names in ways.items() if wanted(names)), ",")
    return Text(encoding, found, ways[found], skipped)


def rows_of(file: Path, text: Text) -> Iterator[tuple[int, list[str]]]:
    """(line, cells) of each row, the column names first; empty lines are left out."""
    with opened(file, text.encoding) as stream:
        for _ in range(text.skipped):
            stream.readline()
        reader = csv.reader(stream, delimiter=text.separator, strict=True)
        yield from ((text.skipped + reader.line_num, row) for row in reader if row)


@contextmanager
def opened(file: Path, encoding: str) -> Iterator[Any]:
    """The file as text.

    Raises:
        UserError: it is not of this encoding.
    """
    try:
        with file.open(encoding=encoding, newline="") as stream:
            yield stream
    except UnicodeError as error:
        raise UserError(_wrong_encoding(file, encoding, error)) from None


def _no_table(head: bytes) -> str:
    """What a file that is no table is, and what to do; "" if it may be one."""
    excel = b"[Content_Types].xml" in head or b"xl/" in head
    kind = "an Excel file" if excel and content(head[:HEAD]) == "zip archive" else ""
    kind = kind or next((name for magic, name in NO_TABLES if head.startswith(magic)), "")
    if kind:
        return f"{kind}; export it as .csv (CSV UTF-8) or .parquet"
    if head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"["):
        return "JSON; write it as .csv or .parquet, one row per image (pandas.read_json, to_csv)"
    kind = content(head[:HEAD])
    if kind in TAKEN:
        return f"no table, but an image ({kind}); a table has its path"
    return f"no table, but {kind}: {UNREAD[kind]}" if kind in UNREAD else ""


def _encoding(file: Path, head: bytes, given: str | None) -> str:
    if given is not None:
        try:
            if not isinstance(given, str) or not codecs.lookup(given)._is_text_encoding:
                raise LookupError
        except LookupError:
            raise UserError(
                f"{SETTING} is {given!r}; accepted: null (UTF-8), or a name that Python knows, as "
                f"{', '.join(LIKELY)}."
            ) from None
    if marked := next((name for mark, name in MARKS if head.startswith(mark)), None):
        return marked
    if given is None and head.count(0) > len(head) // 4:
        which = "utf-16-le" if head[1:2] == b"\0" else "utf-16-be"
        raise UserError(
            f"{file} has zero bytes, as UTF-16 without its mark has: say {SETTING}={which}, or "
            "save it as UTF-8."
        )
    return given or "utf-8"


def _wrong_encoding(file: Path, encoding: str, error: UnicodeError) -> str:
    """Names the first word that is not of the encoding, as others read it."""
    data = file.read_bytes()
    try:
        data.decode(encoding)
        place = 0
    except UnicodeDecodeError as where:
        place = where.start
    start = max(data.rfind(c, 0, place) for c in (b"\n", b",", b";", b"\t")) + 1
    ends = [end for c in (b"\n", b"\r", b",", b";", b"\t") if (end := data.find(c, place)) > 0]
    word = data[start : min([*ends, place + 60])]
    read = []
    for name, which in LIKELY.items():
        try:
            read.append(f"{SETTING}={name} ({which}) reads {word.decode(name)!r}")
        except UnicodeDecodeError:  # noqa: PERF203
            continue
    others = f": {'; '.join(read)};" if read else ","
    return (
        f"{file} is not {encoding.upper()} (can't decode byte 0x{data[place]:02x} at {place:,})"
        f"{others} or save it as UTF-8."
    )
