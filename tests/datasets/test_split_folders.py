"""train/, val/, test/: the split, or a sentence; and folders that only look like it."""

from pathlib import Path

import pytest

from rhs.data.splits import official_split
from rhs.datasets.folder import fetch
from rhs.datasets.raw_folder import read_raw
from rhs.datasets.split_folders import same_names, split_word
from rhs.errors import UserError


def fetched(tmp_path: Path, names: list[str], **options) -> dict[str, tuple[str, str]]:
    """Name -> (class, split)."""
    for name in names:
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    fetch(tmp_path / "raw", str(tmp_path / "in"), **options)
    rows = read_raw(tmp_path / "raw")[0].to_pylist()
    return {row["name"]: (row["class_name"], row["split"]) for row in rows}


def each(*folders: str) -> list[str]:
    return [f"{folder}/{i}.jpg" for folder in folders for i in range(2)]


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("train", "val", "test"),
        ("Training", "Validation", "TESTING"),
        ("train", "valid", "Test"),
        ("train_set", "dev-set", "test set"),
        ("set/train", "set/val", "set/test"),
        ("images/train2017", "images/val2017", "images/test2017"),
        ("cars_train", "cars_val", "cars_test"),
        ("train/images", "val/images", "test/images"),
    ],
)
def test_split_folders_of_other_classes_are_the_split(tmp_path, capsys, train, val, test):
    names = each(f"{train}/a", f"{train}/b", f"{val}/c", f"{val}/d", f"{test}/e", f"{test}/f")
    found = fetched(tmp_path, names)
    wanted = {"a": "train", "b": "train", "c": "val", "d": "val", "e": "test", "f": "test"}
    assert official_split(*zip(*found.values(), strict=True)) == wanted
    said = capsys.readouterr().out
    assert "are taken as the split (dataset.fetch.split_folders: auto, split, merge, none)" in said


def test_val_is_the_test_where_there_is_none(tmp_path, capsys):
    found = fetched(tmp_path, each("train/a", "train/b", "valid/c", "valid/d"))
    assert {split for _, split in found.values()} == {"train", "test"}
    assert "val as test" in capsys.readouterr().out


def test_queries_and_gallery_may_share_classes(tmp_path):
    names = each("bounding_box_train/1", "bounding_box_train/2", "query/3", "query/4")
    found = fetched(tmp_path, [*names, *each("bounding_box_test/3", "bounding_box_test/4")])
    assert found["query/3/0.jpg"] == ("3", "query")
    assert found["bounding_box_test/3/0.jpg"] == ("3", "gallery")


KINDS = ("cat", "dog", "fox", "owl")
SAME = each(*(f"set/{s}/{c}" for s in ("train", "val", "test") for c in KINDS))
INSIDE = each(*(f"{c}/{s}" for c in KINDS for s in ("train", "test")))
FOLDS = each(*(f"fold{k}/{c}" for k in (1, 2, 3) for c in KINDS))


@pytest.mark.parametrize("names", [SAME, INSIDE, FOLDS], ids=["outside", "inside", "folds"])
def test_split_folders_of_the_same_classes_have_to_be_decided(tmp_path, names):
    with pytest.raises(UserError, match=r"looks like split folders .*merge.*none") as caught:
        fetched(tmp_path, names)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="split_folders=split cannot be done"):
        fetched(tmp_path, names, split_folders="split")
    merged = fetched(tmp_path, names, split_folders="merge")
    assert set(merged.values()) == {(c, "") for c in KINDS}
    assert len(merged) == len(names)
    apart = fetched(tmp_path, names, split_folders="none")
    assert len(set(apart.values())) == len(names) // 2


def test_images_without_a_class_in_a_split_folder_are_passed_over(tmp_path, capsys):
    """As of a competition, whose test images have no labels."""
    names = [*each(*(f"train/{c}" for c in "abcd")), "test/1.jpg", "test/2.jpg"]
    found = fetched(tmp_path, names)
    assert set(found.values()) == {(c, "") for c in "abcd"}
    assert "2 images lie right in test, in no folder of a class" in capsys.readouterr().out


@pytest.mark.parametrize(
    "names",
    [
        each("bus", "car", "train", "tram"),
        each("bus", "car", "train/steam", "train/diesel"),
        each("bullet_train", "crash_test", "car", "bus"),
        each("bullet_train/a", "crash_test/a", "car/b", "bus/b"),
        each("train", "test", "bus", "car"),
        each("fold1", "fold2", "bus", "car"),
        each("contest/a", "protest/a", "latest/a", "retrain/a"),
    ],
)
def test_classes_of_such_names_stay_classes(tmp_path, names):
    found = fetched(tmp_path, names)
    assert found == {name: (name.rpartition("/")[0], "") for name in names}


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (each("train", "test"), "lie right in test, train, in no folder of a class"),
        (each("images/train", "images/val"), "lie right in train, val"),
        (each("train/a", "train/b", "test/c", "test/d", "extra/e"), "beside them extra: move"),
        (each("cat", "dog", "fox", "owl", "test/cat", "test/dog"), "beside them cat, dog, fox"),
        (
            each("bottle/train/good", "bottle/test/broken", "bottle/truth/x", "cup/train/good"),
            "beside them truth",
        ),
    ],
)
def test_what_only_half_looks_like_a_split_is_refused(tmp_path, names, sentence):
    with pytest.raises(UserError, match=f"{sentence}.*split_folders=none") as caught:
        fetched(tmp_path, names)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "raw").exists()


@pytest.mark.parametrize("setting", ["both", True, 5, "Auto"])
def test_settings_that_are_none(tmp_path, setting):
    with pytest.raises(UserError, match=r"split_folders is .*; accepted: auto, split, merge, none"):
        fetched(tmp_path, each("a", "b", "c", "d"), split_folders=setting)


def test_null_is_none_and_a_split_that_is_not_there_is_refused(tmp_path):
    names = each("train/a", "train/b", "test/a", "test/b")
    assert len(set(fetched(tmp_path, names, split_folders=None).values())) == 4
    (tmp_path / "plain").mkdir()
    with pytest.raises(UserError, match=r"split_folders is split, but .* has no folders train"):
        fetched(tmp_path / "plain", each("a", "b", "c", "d"), split_folders="split")


def test_folders_of_the_same_names_are_told(tmp_path, capsys):
    fetched(tmp_path, each("2023/cat", "2023/dog", "2024/cat", "2024/dog"))
    said = "2023, 2024 hold folders of the same names (cat, dog): each of them is a class"
    assert said in capsys.readouterr().out
    assert same_names([("a", "images"), ("b", "images"), ("c", "x")]) == ""


@pytest.mark.parametrize("test", ["test/cat", "holdout/cat", "Test/Cat"])
def test_classes_of_one_name_in_any_case_are_no_split(tmp_path, test):
    with pytest.raises(UserError, match=r"share classes.*split_folders=merge") as caught:
        fetched(tmp_path, each("train/cat", "train/dog", test, f"{test.partition('/')[0]}/fox"))
    assert ("rename one side" in str(caught.value)) == test.endswith("Cat")


def test_words():
    assert split_word("trainval") == split_word("train_val") == (None, "train")
    assert split_word("Train (old)") is None
    assert split_word(" VALID ") == (None, "val")
    assert split_word("k-fold 3") == split_word("fold_03") == (None, "fold")
