"""What a worker makes of rows of an index."""

import errno
import hashlib
import io
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pytest
from filelock import FileLock, Timeout
from PIL import Image

from rhs.preprocessing import prepare_rows as module
from rhs.preprocessing.prepare_rows import PREPARED_SCHEMA, prepare_rows

HOW = {"short_side": 256, "quality": 95, "max_pixels": 1000}


def encoded(kind: str, frames: int = 1, size: tuple[int, int] = (16, 12)) -> bytes:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (frames, size[1], size[0], 3), dtype=np.uint8)
    first, *more = map(Image.fromarray, pixels)
    buffer = io.BytesIO()
    first.save(buffer, kind, **({"save_all": True, "append_images": more} if more else {}))
    return buffer.getvalue()


def prepared(folder: Path, files: dict[str, bytes], **how) -> list[pa.Table]:
    """Tables made of files that an index lists without a mistake."""
    listed = []
    for row, (name, data) in enumerate(files.items()):
        (folder / name).write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        place = {"name": name, "file": name, "offset": 0, "size": len(data), "sha256": digest}
        listed.append({"row": row + 7, **place})
    return list(prepare_rows(pa.Table.from_pylist(listed), folder, **{**HOW, **how}))


@pytest.mark.parametrize(
    ("name", "data", "odd"),
    [
        ("a.jpg", encoded("JPEG"), []),
        ("a.JPEG", encoded("JPEG"), []),
        ("a.jpg", encoded("MPO", 2), []),
        ("a.tif", encoded("TIFF"), []),
        ("photo.from.1999", encoded("PNG"), []),
        ("photo", encoded("PNG"), []),
        ("a.jpg", encoded("PNG"), ["wrongly named: .jpg, but PNG"]),
        ("a.PNG", encoded("WEBP"), ["wrongly named: .png, but WEBP"]),
        ("a.gif", encoded("GIF", 3), ["animated: GIF, the first frame was taken"]),
        ("a.png", encoded("PNG", 3), ["animated: PNG, the first frame was taken"]),
        ("a.tif", encoded("TIFF", 3), ["several pages: TIFF, the first was taken"]),
        (
            "a.png",
            encoded("WEBP", 2),
            ["animated: WEBP, the first frame was taken", "wrongly named: .png, but WEBP"],
        ),
    ],
)
def test_what_is_odd_is_said(tmp_path, name, data, odd):
    (table,) = prepared(tmp_path, {name: data})
    assert table.schema.equals(PREPARED_SCHEMA)
    (row,) = table.to_pylist()
    assert (row["why"], row["odd"], row["width"], row["row"]) == (None, odd, 16, 7)


def test_refusals_and_images_side_by_side(tmp_path):
    files = {
        "bomb.png": encoded("PNG", size=(40, 30)),
        "text.jpg": b"some text, long enough to look at",
        "good.png": encoded("PNG"),
        "none.png": b"",
    }
    (table,) = prepared(tmp_path, files)
    whys = ["decompression bomb: 40 x 30 pixels, max_pixels is 1000", "not an image", None]
    assert table["why"].to_pylist() == [*whys, "zero size"]
    assert table["image"].to_pylist() == [None, None, files["good.png"], None]


def test_a_file_of_too_many_bytes_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_read", None)
    (table,) = prepared(tmp_path, {"a.bmp": bytes(8001)})
    assert table["why"].to_pylist() == ["too many bytes: 8001, at most 8000 are read"]


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_a_broken_disk_is_no_change_of_the_source(tmp_path, monkeypatch, code):
    def broken(*args, **kwargs):
        raise OSError(code, "broken")

    monkeypatch.setattr(Path, "open", broken)
    with pytest.raises(OSError, match="broken"):
        module._read(tmp_path / "a.png", 0, 10)


def test_what_may_not_be_read_any_more_is_changed(tmp_path, monkeypatch):
    def forbidden(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", forbidden)
    assert module._read(tmp_path / "a.png", 0, 10) is None


def test_tables_are_bounded_in_bytes(tmp_path, monkeypatch):
    data = encoded("PNG")
    files = {f"{i}.png": data for i in range(7)}
    monkeypatch.setattr(module, "CHUNK_BYTES", 3 * len(data))
    assert [len(table) for table in prepared(tmp_path, files)] == [3, 3, 1]
    monkeypatch.setattr(module, "CHUNK_BYTES", 1)
    assert [len(table) for table in prepared(tmp_path, files)] == [1] * 7


def test_large_images_wait_for_their_turn(tmp_path, monkeypatch):
    turns, trimmed = [], []

    @contextmanager
    def turn():
        turns.append("taken")
        yield

    monkeypatch.setattr(module, "_turn", turn)
    monkeypatch.setattr(module, "_trim", lambda: trimmed.append(True))
    monkeypatch.setattr(module, "LARGE", 200)
    files = {"a.png": encoded("PNG"), "b.png": encoded("PNG", size=(20, 20)), "c.png": b"text"}
    (table,) = prepared(tmp_path, files)
    assert table["why"].to_pylist() == [None, None, "not an image"]
    assert table["width"].to_pylist()[:2] == [16, 20]
    assert (len(turns), len(trimmed)) == (1, 1)
    monkeypatch.setattr(module, "LARGE_FILE", len(files["b.png"]) - 1)
    assert prepared(tmp_path, files) == [table]
    assert (len(turns), len(trimmed)) == (3, 2), "not from when b.png is read to when it is decoded"
    monkeypatch.undo()
    assert prepared(tmp_path, files) == [table]


def test_who_has_the_turn_may_take_it_again():
    with module._turn(), module._turn().acquire(timeout=1):
        other = FileLock(module._turn().lock_file)
        with pytest.raises(Timeout):
            other.acquire(timeout=0)


def test_memory_of_a_large_image_is_given_back():
    """None of it is left with the process, whatever the C library would keep."""
    process = psutil.Process()
    blocks = [bytearray(30_000) for _ in range(3000)]  # too small to be mapped one by one
    held = process.memory_info().rss
    del blocks[:-1]
    module._trim()
    assert held - process.memory_info().rss > 50e6
