"""The raw folder that every data set's `fetch` makes: where each image lies, and its checksum.

Images are read in place by (file, offset, size), so a data set of a million images is a few files:

    index.parquet   one row per image, sorted by name; see `ImageFile`
    source.json     {"dataset", "source", "images", "classes", "refused": [{"name", "why"}],
                     "notes": counts that only this data set has, "fetch": the settings
                     that the fetch stage was given, "inputs": what it read, see
                     `rhs.datasets.source_fingerprints`}
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from rhs.errors import UserError

DESCRIPTION = {"dataset", "source", "images", "classes", "refused", "notes"}
LONGEST = 200  # bytes of a name: a folder's has 255, with what is added while it is written
MIN_CLASSES = 4  # two to train on and two to test on: with one, every retrieval is right


def folder_name(dataset: object) -> str:
    """`dataset.name`, fit for folders of its own: data/raw/<name> and the like.

    Raises:
        UserError: it is not, so that another folder would be replaced.
    """
    text = dataset if isinstance(dataset, str) else ""
    if re.fullmatch(r"[\w-][\w.-]{0,99}", text) and len(text.encode()) <= LONGEST:
        return text
    raise UserError(
        f"dataset.name is {dataset!r}; it must be text of letters, digits, '_', '-' and '.', 100 "
        f"(and {LONGEST} bytes) at most, and not begin with '.'."
    )


class ImageFile(NamedTuple):
    """One image of a source and where its encoded bytes lie."""

    name: str  # path inside the source, e.g. "Audi/0001.jpg"
    class_name: str  # folder names joined by "/"
    file: str  # relative: inside the raw folder; absolute: elsewhere
    offset: int
    size: int
    sha256: str  # of the encoded bytes
    split: str = ""  # "train", "val", "test", "query", "gallery"; "": the data set has no split
    values: tuple[float, ...] | None = None  # continuous labels, if the data set has any


class Refused(NamedTuple):
    """Something in a source that is not taken as an image. `why` is "kind" or "kind: detail"."""

    name: str
    why: str


INDEX_SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("class_name", pa.string()),
        ("file", pa.string()),
        ("offset", pa.int64()),
        ("size", pa.int64()),
        ("sha256", pa.string()),
        ("split", pa.string()),
        ("values", pa.list_(pa.float64())),
    ]
)


def write_raw(
    folder: Path,
    dataset: str,
    source: str,
    images: Sequence[ImageFile],
    *,
    refused: Sequence[Refused] = (),
    notes: dict[str, Any] | None = None,
    hint: str = "",
) -> dict[str, Any]:
    """Write index.parquet and source.json into `folder`; returns what source.json says.

    Args:
        hint: what would bring in more images, said where they are too few.

    Raises:
        UserError: the images are of fewer than four classes.
    """
    classes = sorted({image.class_name for image in images})
    if len(classes) < MIN_CLASSES:
        raise UserError(_too_few(source, classes, refused, hint))
    columns = zip(*sorted(images, key=lambda image: image.name), strict=True)
    arrays = [pa.array(c, t) for c, t in zip(columns, INDEX_SCHEMA.types, strict=True)]
    pq.write_table(pa.table(arrays, schema=INDEX_SCHEMA), folder / "index.parquet")
    description: dict[str, Any] = {
        "dataset": dataset,
        "source": source,
        "images": len(images),
        "classes": len(classes),
        "refused": [r._asdict() for r in sorted(refused)],
        "notes": notes or {},
    }
    text = json.dumps(description, indent=1, ensure_ascii=False)
    (folder / "source.json").write_text(text + "\n", encoding="utf-8")
    return description


def read_raw(folder: Path) -> tuple[pa.Table, dict[str, Any]]:
    """The index (columns of `ImageFile`, sorted by name) and the description of a raw folder.

    Raises:
        UserError: the folder is not there, damaged, or of another version; the fetch stage makes
            it.
    """
    if not (folder / "index.parquet").exists():
        raise UserError(f"{folder} holds no index.parquet: run the fetch stage first.")
    try:
        description = json.loads((folder / "source.json").read_text(encoding="utf-8"))
        index = pq.read_table(folder / "index.parquet")
        missing = sorted(DESCRIPTION - set(description))
    except (OSError, ValueError, TypeError, pa.ArrowException) as error:
        why = " ".join(str(error).split())[:200]
        raise UserError(f"{folder} is damaged ({why}): run the fetch stage again.") from None
    if missing:
        raise UserError(
            f"{folder / 'source.json'} has no {', '.join(missing)}: run the fetch stage again."
        )
    if not index.schema.equals(INDEX_SCHEMA):
        raise UserError(
            f"{folder / 'index.parquet'} has other columns than this version's: run the fetch "
            "stage again."
        )
    return index, description


def _too_few(source: str, classes: Sequence[str], refused: Sequence[Refused], hint: str) -> str:
    found = f"{len(classes)} ({', '.join(classes)})" if classes else "none"
    sentence = f"{source} has too few classes: found {found}, at least {MIN_CLASSES} are needed"
    if refused:
        first = refused[0]
        sentence += f"; {len(refused)} entries were refused, the first {first.name} ({first.why})"
    return f"{sentence}{'; ' if hint else ''}{hint}."
