"""Embedding a folder: every image once, and every other file named."""

import os
import time

import numpy as np
import pytest
from folders import make_images
from tiny_project import class_image, png

from rhs.errors import UserError
from rhs.inference.embed_folder import embed_folder, prepared, printable
from rhs.inference.image_embedder import ImageEmbedder
from rhs.preprocessing.prepare_image import BadImage


@pytest.fixture
def model(made):
    return ImageEmbedder(made.model)


def test_every_image_with_its_name_and_class(model, tmp_path, monkeypatch):
    monkeypatch.setattr("rhs.inference.embed_folder.BATCH", 2)
    root = make_images(tmp_path / "in", [3, 2])
    (root / "loose.png").write_bytes(png(class_image(7, 0)))
    (root / "deep/class0").mkdir(parents=True)
    (root / "deep/class0/a.png").write_bytes(png(class_image(7, 1)))
    embedded, refused = embed_folder(root, model, "digest")
    assert refused == []
    assert embedded.names == [
        "class0/0.png",
        "class0/1.png",
        "class0/2.png",
        "class1/0.png",
        "class1/1.png",
        "deep/class0/a.png",
        "loose.png",
    ]
    assert embedded.class_names == [*["class0"] * 3, *["class1"] * 2, "deep/class0", ""]
    assert embedded.labels.tolist() == [0, 0, 0, 1, 1, 2, -1]
    assert (embedded.queries, embedded.model) == (None, "digest")
    for name, row in zip(embedded.names, embedded.embeddings, strict=True):
        (alone,) = model.embed([model.pixels(model.prepare((root / name).read_bytes()))])
        np.testing.assert_allclose(row, alone, atol=1e-6)


def test_what_cannot_be_embedded_is_named_with_the_reason(model, tmp_path, monkeypatch):
    root = make_images(tmp_path / "in", [2, 1], class0=b"junk")
    (root / "class1/0.png").write_bytes(b"")
    (root / "notes.txt").write_text("hello")
    (root / ".hidden.png").write_bytes(b"junk")
    (root / ".git").mkdir()
    (root / ".git/a.png").write_bytes(b"junk")
    (root / "gone.png").symlink_to(root / "nowhere")
    os.mkfifo(root / "pipe.png")
    (root / "linked").symlink_to(root / "class0")
    monkeypatch.setattr(
        "rhs.inference.embed_folder.LARGE_FILE", 4
    )  # then all are asked what they are
    monkeypatch.setattr("rhs.inference.embed_folder.MOST_BYTES", 9_999)
    (root / "film.mp4").write_bytes(bytes(10_000))
    cut = png(class_image(0, 5))[:-60]
    (root / "class1/cut.png").write_bytes(cut)
    embedded, refused = embed_folder(root, model)
    assert embedded.names == ["class0/1.png"]
    reasons = dict(refused)
    assert reasons.pop("class1/cut.png").startswith(("truncated", "damaged"))
    assert reasons == {
        "class0/0.png": "not an image",
        "class1/0.png": "zero size",
        "notes.txt": "not an image",
        "gone.png": "not a regular file",
        "pipe.png": "not a regular file",
        "linked": "a link to a folder",
        "film.mp4": "too many bytes: 10000, at most 9999 are read",
    }


def test_a_large_file_that_is_no_image_is_not_read(model, tmp_path, monkeypatch):
    film, cut = tmp_path / "film.mp4", tmp_path / "cut.png"
    film.write_bytes(bytes(1000))
    cut.write_bytes(png(class_image(0, 5))[:20])  # Pillow fails within the header
    monkeypatch.setattr("rhs.inference.embed_folder.LARGE_FILE", 4)
    with pytest.raises(BadImage, match=r"truncated|damaged|not an image"):
        prepared(cut, model)
    monkeypatch.setattr("pathlib.Path.read_bytes", lambda _: pytest.fail("read"))
    with pytest.raises(BadImage, match="not an image"):
        prepared(film, model)


@pytest.mark.parametrize("limit", ["LARGE", "LARGE_FILE"])
def test_large_images_are_in_memory_one_at_a_time(model, tmp_path, monkeypatch, limit):
    root = make_images(tmp_path / "in", [8])
    present, most, usual = [], [], model.prepare

    def slow(data, *max_pixels):
        if max_pixels and limit == "LARGE":
            return usual(data, *max_pixels)  # which refuses, at once
        present.append(data)
        most.append(len(present))
        time.sleep(0.005)
        present.remove(data)
        return usual(data)

    monkeypatch.setattr(model, "prepare", slow)
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    assert len(embed_folder(root, model)[0]) == 8
    assert (len(most), max(most, default=0) > 1) == ((0, False) if limit == "LARGE" else (8, True))
    most.clear()
    monkeypatch.setattr(f"rhs.inference.embed_folder.{limit}", 1)
    assert len(embed_folder(root, model)[0]) == 8
    assert most == [1] * 8


def test_a_folder_that_cannot_be_read_is_named(model, tmp_path, monkeypatch):
    root = make_images(tmp_path / "in", [1, 1])
    scandir = os.scandir

    def closed(path):
        if str(path).endswith("class0"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr("os.scandir", closed)
    embedded, refused = embed_folder(root, model)
    assert embedded.names == ["class1/0.png"]
    assert refused == [("class0", "unreadable: Permission denied")]


def test_nothing_to_embed_is_refused(model, tmp_path):
    with pytest.raises(UserError, match="none is not a folder"):
        embed_folder(tmp_path / "none", model)
    with pytest.raises(UserError, match=r"holds no image that can be embedded\."):
        embed_folder(tmp_path, model)
    (tmp_path / "a.png").write_bytes(b"junk")
    with pytest.raises(UserError, match=r"embedded: a.png is refused \(not an image\)"):
        embed_folder(tmp_path, model)


def test_names_are_made_printable():
    assert printable("Größe 日本.png") == "Größe 日本.png"
    assert printable("a\x1b[2J\n\udcff") == "a\ufffd[2J\ufffd\ufffd"
