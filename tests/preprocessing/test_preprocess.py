"""Raw folder -> shards: nothing dropped silently."""

import csv
import errno
import io
import re
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from raw_images import make_raw, noise_image, one_piece

from rhs.data.shards import SHARD_SCHEMA, ShardedImages, load_manifest
from rhs.errors import UserError
from rhs.preprocessing import preprocess as module
from rhs.preprocessing import ray_preprocessing
from rhs.preprocessing.preprocess import preprocess


@pytest.fixture
def in_process(monkeypatch):
    monkeypatch.setattr(module, "prepare_on_ray", one_piece)


@pytest.fixture(scope="module")
def raw_folder(tmp_path_factory):
    """For tests that change nothing in it."""
    return make_raw(tmp_path_factory.mktemp("raw"))


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


def test_what_is_odd_is_kept_and_named(in_process, tmp_path):
    frames = [Image.new("RGB", (16, 12), color) for color in ("red", "blue")]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    changes = {"a/0.png": buffer.getvalue(), "e/named.jpg": noise_image(9)}
    manifest = preprocess(make_raw(tmp_path, changes), tmp_path / "out")
    assert manifest["odd"] == [
        {"name": n, "class_name": n[0], "what": what}
        for n, what in [
            ("a/0.png", "animated: GIF, the first frame was taken"),
            ("a/0.png", "wrongly named: .png, but GIF"),
            ("e/named.jpg", "wrongly named: .jpg, but PNG"),
        ]
    ]
    assert manifest["odd_by_kind"] == {"animated": 1, "wrongly named": 2}
    assert (
        "Odd images, kept: 1 animated, 2 wrongly named; all are in kept.csv."
        in (manifest["warnings"])
    )
    (train,) = (s["file"] for s in manifest["shards"] if s["file"].startswith("train-"))
    converted = pq.read_table(tmp_path / "out" / train)["converted"].to_pylist()
    assert converted[1:] == [None] * (len(converted) - 1)
    assert manifest["converted"] == {converted[0]: 1}
    assert converted[0].startswith("animated GIF -> first frame")


def test_images_of_too_many_pixels(in_process, tmp_path):
    raw = make_raw(tmp_path)
    with pytest.raises(UserError, match=r"^30 of 30 .* \(decompression bomb: 16 x 12 pixels"):
        preprocess(raw, tmp_path / "out", max_pixels=191)
    assert preprocess(raw, tmp_path / "out", max_pixels=192)["refused"] == []
    with pytest.raises(UserError, match="max_pixels is 200000000; accepted: 1 to 178956970"):
        preprocess(raw, tmp_path / "out", max_pixels=200_000_000)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        *(("max_pixels", value) for value in (None, 0, 1.5)),
        *(("max_bad_fraction", value) for value in (None, "x", -1, 2, float("nan"))),
        *(("rows_per_shard", value) for value in (None, "x", 0, 1.5)),
        *(("short_side", value) for value in (None, "abc", 0, -5, 1, 12.5, True)),
        *(("quality", value) for value in (None, "x", 0, 101, 1000)),
        *(("validation", value) for value in (None, "x", -0.1, 1, float("nan"))),
        ("across_classes", "both"),
        ("train_classes", 5),
        ("test_classes", {"a": 1}),
    ],
)
def test_a_setting_out_of_range(in_process, raw_folder, tmp_path, setting, value):
    with pytest.raises(UserError) as caught:
        preprocess(raw_folder, tmp_path / "out", **{setting: value})
    setting = {"across_classes": "copies_across_classes"}.get(setting, setting)
    assert re.match(rf"(preprocess|dataset)\.{setting} is .*\.$", str(caught.value))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("how", [{"quality": 1}, {"quality": 100}, {"short_side": 2}])
def test_settings_at_the_ends_of_their_ranges(in_process, raw_folder, tmp_path, how):
    assert preprocess(raw_folder, tmp_path / "out", **how)["refused"] == []


def test_tasks_are_bounded_in_images_and_in_bytes(monkeypatch):
    monkeypatch.setattr(ray_preprocessing, "BLOCK_ROWS", 4)
    monkeypatch.setattr(ray_preprocessing, "BLOCK_BYTES", 100)
    sizes = [10] * 6 + [60, 60, 40, 1, 500, 500, 99]
    texts = [str(i) for i in range(len(sizes))]
    columns = dict.fromkeys(("name", "file", "sha256"), texts)
    plan = pa.table({**columns, "size": sizes, "offset": [0] * len(sizes)})
    blocks = ray_preprocessing._blocks(plan)
    assert [b["size"].to_pylist() for b in blocks] == [
        [10] * 4,
        [10, 10, 60],
        [60, 40],
        [1],
        [500],
        [500],
        [99],
    ]
    assert [row for b in blocks for row in b["row"].to_pylist()] == list(range(len(sizes)))


def test_too_many_refused_is_an_error_that_leaves_a_list_of_all(in_process, tmp_path):
    raw = make_raw(tmp_path, {f"a/bad{i:02d}.png": b"no image" for i in range(12)})
    listed = tmp_path / "data" / "out.refused.csv"
    sentence = rf"12 of 42 images .* \(28\.6%\), first a/bad00\.png .* all are in {listed}: mend"
    with pytest.raises(UserError, match=sentence):
        preprocess(raw, tmp_path / "data" / "out")
    assert list((tmp_path / "data").iterdir()) == [listed]
    rows = list(csv.DictReader(listed.open(encoding="utf-8-sig")))
    assert [row["name"] for row in rows] == [f"a/bad{i:02d}.png" for i in range(12)]
    assert rows[0] == {"name": "a/bad00.png", "class_name": "a", "why": "not an image"}
    preprocess(raw, tmp_path / "data" / "out", max_bad_fraction=0.3)
    assert not listed.exists()
    kept = list(csv.DictReader((tmp_path / "data/out/refused.csv").open(encoding="utf-8-sig")))
    assert kept == rows


def test_what_is_kept_though_alone_or_odd_is_in_a_list(in_process, tmp_path):
    raw = make_raw(
        tmp_path, {f"a/{i}.png": None for i in range(1, 5)} | {"b/x.jpg": noise_image(9)}
    )
    preprocess(raw, tmp_path / "out")
    rows = csv.reader((tmp_path / "out" / "kept.csv").open(encoding="utf-8-sig"))
    assert [row[:2] for row in rows] == [["name", "class_name"], ["b/x.jpg", "b"], ["a/0.png", "a"]]
    assert not (tmp_path / "out" / "refused.csv").exists()


def test_a_long_tail_is_measured_on_classes_that_have_pairs(in_process, tmp_path):
    """Halves by name would test on d, e, f alone, each of one image."""
    tail = {f"{c}/{i}.png": None for c in "cdef" for i in range(1, 5)}
    manifest = preprocess(make_raw(tmp_path, tail), tmp_path / "out", validation=0)
    assert manifest["splits"]["train"] == {"classes": 3, "images": 7, "singletons": 2}
    assert manifest["splits"]["test"] == {"classes": 3, "images": 7, "singletons": 2}
    assert manifest["warnings"][0] == module.CHOSEN
    assert manifest["singletons"] == list("cdef")


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


def test_one_validation_class_left_measures_nothing(in_process, tmp_path):
    bad = {f"b/{i}.png": b"no image" if i == 0 else None for i in range(5)}
    raw = make_raw(tmp_path, {**bad, **{f"{c}/0.png": noise_image(ord(c)) for c in "gh"}})
    with pytest.raises(UserError, match="only 1 val class has images left after 1 were refused"):
        preprocess(raw, tmp_path / "out", validation=0.5)
    manifest = preprocess(raw, tmp_path / "out", validation=0)
    assert any(w.startswith("No validation classes:") for w in manifest["warnings"])


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


@pytest.mark.parametrize("change", ["edited", "removed", "a folder", "its folder a file"])
def test_a_source_that_changed_since_fetch(in_process, tmp_path, change):
    raw = make_raw(tmp_path)
    if change == "edited":
        (tmp_path / "in" / "c" / "2.png").write_bytes(noise_image(9))
    elif change == "its folder a file":
        shutil.rmtree(tmp_path / "in" / "c")
        (tmp_path / "in" / "c").write_bytes(b"")
    else:
        (tmp_path / "in" / "c" / "2.png").unlink()
        if change == "a folder":
            (tmp_path / "in" / "c" / "2.png").mkdir()
    with pytest.raises(
        UserError, match=r"c/[0-2]\.png of .* changed, .* run the fetch stage again"
    ):
        preprocess(raw, tmp_path / "out")


def test_a_full_disk_leaves_nothing(in_process, tmp_path, monkeypatch):
    raw = make_raw(tmp_path)

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    with pytest.raises(OSError, match="No space left"):
        preprocess(raw, tmp_path / "data" / "out")
    assert list((tmp_path / "data").iterdir()) == []
