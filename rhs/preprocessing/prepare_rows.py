"""The part of preprocess that runs on Ray's workers: rows of an index -> prepared images."""

import ctypes
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pyarrow as pa
from filelock import FileLock
from PIL import Image

from rhs.config.schema import entries_of
from rhs.config.settings import PreprocessConfig
from rhs.errors import UserError
from rhs.preprocessing.prepare_image import BadImage, Prepared, TooManyPixels, prepare_image

CHUNK_BYTES = 2**23  # of prepared images that are handed over at a time
LARGE, LARGE_FILE = 25_000_000, 2**26  # pixels, bytes: of more, one at a time is in memory
BYTES_PER_PIXEL = 8  # a file of more than this for each of `max_pixels` is not read
PILLOWS_LIMIT = 2 * (Image.MAX_IMAGE_PIXELS or 0)
CHANGED = "changed since fetch"
PREPARED_SCHEMA = pa.schema(
    [
        ("row", pa.int64()),  # of the plan
        ("image", pa.binary()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("why", pa.string()),  # null: the image can be kept
        ("converted", pa.string()),
        ("resized", pa.bool_()),
        ("odd", pa.list_(pa.string())),
    ]
)


def check_ranges(settings: dict[str, Any]) -> None:
    """Raises UserError unless the numbers among the settings of `preprocess` are in range."""
    for key, rule in entries_of(PreprocessConfig).items():
        if key in settings:
            rule(f"preprocess.{key}", settings[key])
    if settings.get("max_pixels", 1) > PILLOWS_LIMIT:
        raise UserError(
            f"preprocess.max_pixels is {settings['max_pixels']}; accepted: 1 to {PILLOWS_LIMIT}, "
            "beyond which Pillow decodes nothing."
        )


def prepare_rows(
    rows: pa.Table, raw: Path, short_side: int, quality: int, max_pixels: int
) -> Iterator[pa.Table]:
    """Read, check and decode the images that `rows` of a plan describe; runs on a worker.

    `raw` is the folder that relative file names start from. Yields tables of PREPARED_SCHEMA, each
    with at most about CHUNK_BYTES of images; where `why` is not null, the image is.
    """
    settings = (short_side, quality, max_pixels)
    prepared: list[dict[str, Any]] = []
    held = 0
    for row in rows.to_pylist():
        fields = _prepare_row(row, raw, settings)
        size = len(fields.get("image", b""))
        if held + size > CHUNK_BYTES and prepared:
            yield pa.Table.from_pylist(prepared, schema=PREPARED_SCHEMA)
            prepared, held = [], 0
        prepared.append({"row": row["row"], **fields})
        held += size
    yield pa.Table.from_pylist(prepared, schema=PREPARED_SCHEMA)


def _prepare_row(row: dict[str, Any], raw: Path, settings: tuple) -> dict[str, Any]:
    """The fields of PREPARED_SCHEMA."""
    if row["size"] > (most := BYTES_PER_PIXEL * settings[2]):
        return {"why": f"too many bytes: {row['size']}, at most {most} are read"}
    with _turn() if row["size"] > LARGE_FILE else nullcontext():
        data = _read(raw / row["file"], row["offset"], row["size"])
        if data is None or hashlib.sha256(data).hexdigest() != row["sha256"]:
            return {"why": CHANGED}
        try:
            image = _prepare_in_turn(data, *settings)
        except BadImage as bad:
            return {"why": str(bad)}
    fields = {name: getattr(image, name) for name in ("width", "height", "converted", "resized")}
    return {"image": image.data, "odd": _oddities(row["name"], image), **fields}


def _prepare_in_turn(data: bytes, short_side: int, quality: int, max_pixels: int) -> Prepared:
    """`prepare_image`, of large images one at a time on this machine."""
    try:
        return prepare_image(data, short_side, quality, min(LARGE, max_pixels))
    except TooManyPixels:
        pass  # it may be large, not too large
    with _turn():
        try:
            return prepare_image(data, short_side, quality, max_pixels)
        finally:
            _trim()


def _turn() -> FileLock:
    """The lock of large images on this machine; who holds it may take it again."""
    path = Path(tempfile.gettempdir(), f"rhs-large-image-{os.getuid()}.lock")
    return FileLock(path, is_singleton=True)


def _trim() -> None:
    """Give back what the C library keeps of memory that was freed: gigabytes, after a large one."""
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):  # of glibc
        trim(0)


def _oddities(name: str, image: Prepared) -> list[str]:
    """What is odd about an image that is kept all the same, as the manifest says it."""
    odd = []
    if image.several and image.source == "TIFF":
        odd.append("several pages: TIFF, the first was taken")
    elif image.several:
        odd.append(f"animated: {image.source}, the first frame was taken")
    ending = Path(name).suffix.lower()
    said = Image.registered_extensions().get(ending, image.source)
    if said != image.source and {said, image.source} != {"JPEG", "MPO"}:
        odd.append(f"wrongly named: {ending}, but {image.source}")
    return odd


def _read(path: Path, offset: int, size: int) -> bytes | None:
    try:
        with path.open("rb", buffering=0) as stream:
            stream.seek(offset)
            return stream.read(size)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError):
        return None  # another disk error is not a change, and keeps its traceback
