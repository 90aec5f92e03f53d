"""Whatever a parameter names is looked at: a change is seen, and nothing stops or is waited for."""

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
from folders import make_images
from tiny_project import composed, write_shards

from pipelines.ensure_shards import DATASET, is_of
from rhs.datasets import source_fingerprints
from rhs.datasets.source_fingerprints import Seen, look, look_at_classes, look_at_source
from rhs.errors import UserError


@pytest.fixture
def images(tmp_path) -> Path:
    return make_images(tmp_path / "images", [3, 3, 3, 3])


def looked(path: Path) -> dict:
    return look(path, Seen(Path("nowhere")))


def table_of(images: Path, **fetch: object) -> dict:
    """Parameters of a table that lists the images of a folder."""
    rows = [f"{file.relative_to(images)},{file.parent.name}" for file in images.glob("*/*.png")]
    table = images.parent / "table.csv"
    table.write_text("\n".join(["path,label", *rows, ",nothing"]))
    recipe = {"_target_": "rhs.datasets.table.fetch", "root": str(images), **fetch}
    return {"source": str(table), "fetch": recipe}


def test_every_change_of_a_folder_is_seen(images):
    """One image's bytes, size and times kept; a name; a new file; one that is gone."""
    known = [looked(images)]
    file = images / "class0/0.png"
    before = file.stat()
    file.write_bytes(file.read_bytes()[::-1])
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    known.append(looked(images))
    file.rename(images / "class0/a.png")
    known.append(looked(images))
    (images / "class1/more.png").write_bytes(b"more")
    known.append(looked(images))
    (images / "class2/0.png").unlink()
    known.append(looked(images))
    assert len({each["sha256"] for each in known}) == len(known)
    assert [each["files"] for each in known] == [12, 12, 12, 13, 12]
    assert looked(images) == known[-1]


def test_it_is_the_same_wherever_the_folder_lies(images):
    here = looked(images)
    images.rename(images.with_name("elsewhere"))
    assert looked(images.with_name("elsewhere")) == here


def test_what_did_not_change_is_not_read_again(images, tmp_path, monkeypatch):
    monkeypatch.setattr(source_fingerprints, "SETTLED", -1)  # files of a test are young
    with Seen(tmp_path / "seen.json") as seen:
        first = look(images, seen)
    read = []
    original = source_fingerprints.file_digest
    monkeypatch.setattr(
        source_fingerprints, "file_digest", lambda path: read.append(path) or original(path)
    )
    with Seen(tmp_path / "seen.json") as seen:
        assert look(images, seen) == first
    assert read == []
    file, kept = images / "class0/0.png", (images / "class0/0.png").stat()
    file.write_bytes(file.read_bytes()[::-1])
    os.utime(file, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    with Seen(tmp_path / "seen.json") as seen:
        assert look(images, seen) != first
    assert read == [str(file)]
    (tmp_path / "seen.json").write_text("{half")
    with Seen(tmp_path / "seen.json") as seen:
        assert look(images, seen) != first


def test_a_file_that_may_still_be_written_is_read_again(images, tmp_path):
    with Seen(tmp_path / "seen.json") as seen:
        look(images, seen)
    assert not (tmp_path / "seen.json").exists()


@pytest.mark.parametrize("kind", ["dangling", "lock", "latin-1", "pipe", "link to a folder"])
def test_what_dvc_cannot_hash_is_recorded_and_not_opened(images, kind, tmp_path):
    before, folder = looked(images), images / "class0"
    match kind:
        case "dangling":
            (folder / "b.jpg").symlink_to("/nowhere/x.jpg")
        case "lock":
            (folder / ".#n.txt").symlink_to("me@host.1:2")
        case "latin-1":
            os.rename(folder / "0.png", os.fsencode(folder) + b"/caf\xe9.png")
        case "pipe":
            os.mkfifo(folder / "p.jpg")
        case "link to a folder":
            (folder / "more").symlink_to(images)
    with Seen(tmp_path / "seen.json") as seen:
        odd = look(images, seen)
    assert odd != before
    assert odd["files"] == 12 + (kind != "latin-1")
    assert look(images, Seen(tmp_path / "seen.json")) == odd


def test_a_file_without_permission(images, monkeypatch):
    before = looked(images)

    def no_permission(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(source_fingerprints, "file_digest", no_permission)
    assert looked(images) != before


def test_images_of_a_table_are_looked_at(images):
    dataset = table_of(images)
    seen = Seen(Path("nowhere"))
    first = look_at_source(dataset, seen)
    assert first["images"]["files"] == 12
    file = images / "class3/2.png"
    file.write_bytes(file.read_bytes() + b"x")
    second = look_at_source(dataset, seen)
    assert second["source"] == first["source"]
    assert second["images"] != first["images"]
    file.unlink()
    assert look_at_source(dataset, seen)["images"] not in (first["images"], second["images"])


def test_a_table_that_cannot_be_read_is_left_to_fetch(images):
    assert "images" not in look_at_source(table_of(images, path="file"), Seen(Path("nowhere")))


def test_lists_of_classes(tmp_path):
    (tmp_path / "train.txt").write_text("a\nb\n")
    dataset = {"train_classes": str(tmp_path / "train.txt"), "test_classes": "class [0-3]" * 50}
    seen = Seen(Path("nowhere"))
    first = look_at_classes(dataset, seen)
    assert first["test_classes"] is None
    (tmp_path / "train.txt").write_text("a\nc\n")
    assert look_at_classes(dataset, seen)["train_classes"] != first["train_classes"]
    assert look_at_classes({"train_classes": ["a"]}, seen)["train_classes"] is None


def test_no_source_is_a_sentence_before_anything_is_removed(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, why in (("nowhere", "does not exist"), ("pipe", "is no file or folder (pipe)")):
        with pytest.raises(UserError, match="accepted: a file or folder") as caught:
            look_at_source({"source": str(tmp_path / name)}, Seen(Path("nowhere")))
        assert f"dataset.source {tmp_path / name} {why};" in str(caught.value)


def test_a_search_notices_a_source_that_was_replaced(project, stage_of):
    """Under the same name; where it is gone, what was made of it is taken."""
    shards = write_shards(Path("data/shards/folder"), train=[4] * 4)
    make_images(Path("photos"), [2] * 4)
    stage_of("fetch", "dataset.source=photos")
    params = composed("dataset=folder", "dataset.source=photos")
    manifest = json.loads((shards / "manifest.json").read_text())
    named = {name: getattr(params.dataset, key) for key, name in DATASET.items()}
    settings = asdict(params.preprocess) | named
    (shards / "manifest.json").write_text(json.dumps(manifest | {"settings": settings}))
    assert is_of(params, shards)
    Path("photos/class0/1.png").write_bytes(b"another")
    assert not is_of(params, shards)
    shutil.rmtree("photos")
    assert is_of(params, shards)
