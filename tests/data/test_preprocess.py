"""Raw folder -> shards: nothing dropped silently, the same bytes however the work is cut."""

import errno
import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from rhs.data import preprocess as module
from rhs.data.preprocess import prepare_rows, preprocess
from rhs.data.shards import SHARD_SCHEMA, ShardedImages, load_manifest
from rhs.datasets import folder
from rhs.errors import UserError

CARS = Path(__file__).parents[3] / "shared" / "datasets" / "cars196-half.tar"


def noise_image(seed: int, kind: str = "PNG", mode: str = "RGB") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, kind)
    return buffer.getvalue()


def make_images(root: Path, changes: dict[str, bytes | None] | None = None) -> Path:
    """Six classes a..f of five images; `changes` replaces or, where None, leaves out files."""
    files: dict[str, bytes | None] = {
        f"{c}/{i}.png": noise_image(100 * label + i)
        for label, c in enumerate("abcdef")
        for i in range(5)
    }
    for name, data in (files | (changes or {})).items():
        if data is not None:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(data)
    return root


def make_raw(tmp_path: Path, changes: dict[str, bytes | None] | None = None) -> Path:
    folder.fetch(tmp_path / "raw", str(make_images(tmp_path / "in", changes)))
    return tmp_path / "raw"


def one_piece(plan, raw, short_side, quality):
    """What Ray's tasks do, done here."""
    return prepare_rows(plan, raw, short_side, quality).to_pylist()


@pytest.fixture
def in_process(monkeypatch):
    monkeypatch.setattr(module, "_prepared", one_piece)


def test_through_ray_and_in_process_alike(ray_cluster, tmp_path, monkeypatch):
    raw = make_raw(tmp_path, {"b/bad.png": b"no image", "f/1.png": noise_image(501, mode="RGBA")})
    monkeypatch.setattr(module, "BLOCK_ROWS", 4)  # eight tasks
    through_ray = preprocess(raw, tmp_path / "ray", rows_per_shard=4)
    monkeypatch.setattr(module, "_prepared", one_piece)
    assert preprocess(raw, tmp_path / "here", rows_per_shard=4) == through_ray
    for shard in through_ray["shards"]:
        here, ray = (tmp_path / f / shard["file"] for f in ("here", "ray"))
        assert here.read_bytes() == ray.read_bytes()


def test_shards_hold_each_split_in_order(in_process, tmp_path):
    manifest = preprocess(make_raw(tmp_path), tmp_path / "out", rows_per_shard=4)
    assert manifest == load_manifest(tmp_path / "out")
    assert [s["file"] for s in manifest["shards"]] == [
        *(f"train-{i:05d}.parquet" for i in range(4)),
        *(f"test-{i:05d}.parquet" for i in range(4)),
    ]
    train, test = (ShardedImages(tmp_path / "out", s) for s in ("train", "test"))
    assert train.names == [f"{c}/{i}.png" for c in "abc" for i in range(5)]
    assert test.labels.tolist() == [label for label in (3, 4, 5) for _ in range(5)]
    assert train.bytes(7) == noise_image(102)
    table = pq.read_table(tmp_path / "out" / "test-00000.parquet")
    assert table.schema.equals(SHARD_SCHEMA)
    assert set(table["width"].to_pylist()) == {16}


def test_every_refusal_is_named_and_counted(in_process, tmp_path):
    changes = {
        "a/bad.png": b"no image at all",
        "b/cut.jpg": noise_image(1, "JPEG")[:-150],
        "c/none.png": b"",
        "d/none.png": b"",  # empty in two classes is empty, not a copy
        "d/copy.png": noise_image(0),  # of a/0.png
        "e/copy.png": noise_image(400),  # of e/0.png: the same class, kept
        "f/clear.png": noise_image(7, mode="RGBA"),
        "stray.png": noise_image(8),
    }
    raw = make_raw(tmp_path, changes)
    manifest = preprocess(raw, tmp_path / "out", max_bad_fraction=0.5, validation=0)
    refused = {entry["name"]: entry["why"] for entry in manifest["refused"]}
    assert set(refused) == {*changes, "a/0.png"} - {"e/copy.png", "f/clear.png"}
    assert refused["a/0.png"] == "duplicate content across classes: also in d"
    assert manifest["refused_by_reason"] == {
        "duplicate content across classes": 2,
        "no class": 1,
        "not an image": 1,
        "truncated": 1,
        "zero size": 2,
    }
    assert manifest["converted"] == {"RGBA -> RGB": 1}
    assert manifest["duplicates_within_class"] == 1
    assert manifest["images"] == 30 + len(changes) - len(refused)
    assert any(w.startswith("Refused images: 2 duplicate content") for w in manifest["warnings"])


def test_too_many_refused_is_an_error_that_leaves_nothing(in_process, tmp_path):
    raw = make_raw(tmp_path, {f"a/bad{i}.png": b"no image" for i in range(3)})
    with pytest.raises(UserError, match=r"3 of 33 images .* \(9\.1%\), first a/bad0\.png"):
        preprocess(raw, tmp_path / "data" / "out")
    assert list((tmp_path / "data").iterdir()) == []
    preprocess(raw, tmp_path / "data" / "out", max_bad_fraction=0.1)


def test_singletons_and_emptied_classes(in_process, tmp_path):
    changes = {f"a/{i}.png": None for i in range(1, 5)} | {f"b/{i}.png": None for i in range(1, 5)}
    raw = make_raw(tmp_path, {**changes, "b/0.png": b"no image"})
    manifest = preprocess(raw, tmp_path / "out", max_bad_fraction=0.1)
    assert manifest["singletons"] == ["a"]
    assert manifest["splits"]["train"] == {"classes": 2, "images": 6, "singletons": 1}
    assert manifest["class_names"] == list("abcdef")
    assert ShardedImages(tmp_path / "out", "train").labels.tolist() == [0, 2, 2, 2, 2, 2]
    assert manifest["warnings"][0] == "Every image was refused of 1 class (b)."


def test_too_few_classes_left(in_process, tmp_path):
    bad = {f"{c}/{i}.png": b"no image" if i == 0 else None for c in "de" for i in range(5)}
    raw = make_raw(tmp_path, bad)
    with pytest.raises(UserError, match="only 1 test classes have images left after 2"):
        preprocess(raw, tmp_path / "out", max_bad_fraction=0.5)


def test_classes_that_no_split_takes_are_left_out(in_process, tmp_path):
    raw = make_raw(tmp_path, {"c/0.png": b"no image"})
    manifest = preprocess(raw, tmp_path / "out", train_classes="[ab]", test_classes=["e", "f"])
    assert manifest["images"] == 20
    assert manifest["refused"] == []
    assert any("takes 2 classes (c, d)" in warning for warning in manifest["warnings"])
    assert ShardedImages(tmp_path / "out", "test").labels.tolist() == [4] * 5 + [5] * 5


def test_a_copy_in_a_class_that_no_split_takes_is_no_duplicate(in_process, tmp_path):
    raw = make_raw(tmp_path, {"c/0.png": noise_image(0)})  # what a/0.png is
    manifest = preprocess(raw, tmp_path / "out", train_classes="[ab]", test_classes="[ef]")
    assert manifest["refused"] == []


@pytest.mark.parametrize("change", ["edited", "removed"])
def test_a_source_that_changed_since_fetch(in_process, tmp_path, change):
    raw = make_raw(tmp_path)
    if change == "edited":
        (tmp_path / "in" / "c" / "2.png").write_bytes(noise_image(9))
    else:
        (tmp_path / "in" / "c" / "2.png").unlink()
    with pytest.raises(UserError, match=r"c/2\.png of .* run the fetch stage again"):
        preprocess(raw, tmp_path / "out")


def test_a_full_disk_leaves_nothing(in_process, tmp_path, monkeypatch):
    raw = make_raw(tmp_path)

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(OSError, match="No space left"):
        preprocess(raw, tmp_path / "data" / "out")
    assert list((tmp_path / "data").iterdir()) == []


@pytest.mark.skipif(not CARS.exists(), reason="../shared/datasets/cars196-half.tar is not here")
def test_cars196_half(ray_cluster, tmp_path):
    made = folder.fetch(tmp_path / "raw", str(CARS))
    assert (made["images"], made["classes"]) == (8144, 196)
    manifest = preprocess(tmp_path / "raw", tmp_path / "out", validation=0)
    assert manifest["splits"]["train"]["classes"] == manifest["splits"]["test"]["classes"] == 98
    # Eleven photographs stand in two classes each; 4,052 + 4,092 images otherwise.
    assert manifest["refused_by_reason"] == {"duplicate content across classes": 22}
    assert manifest["splits"]["train"]["images"] + manifest["splits"]["test"]["images"] == 8122
