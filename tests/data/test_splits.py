"""The zero-shot split and the held-out validation classes."""

import pytest
from omegaconf import OmegaConf

from rhs.data.splits import official_split, split_classes
from rhs.errors import UserError

TEN = [f"class{i}" for i in range(10)]


def of(split: dict[str, str], which: str) -> list[str]:
    return [name for name, s in split.items() if s == which]


@pytest.mark.parametrize(("classes", "train", "test"), [(196, 98, 98), (81, 40, 41), (4, 2, 2)])
def test_first_half_trains_second_half_tests(classes, train, test):
    names = [f"{i:03d}" for i in range(classes)]
    split = split_classes(names[::-1], validation=0)
    assert of(split, "train") == names[:train]
    assert of(split, "test") == names[-test:]


def test_validation_is_even_and_disjoint():
    names = [f"{i:03d}" for i in range(200)]
    split = split_classes(names, validation=0.1)
    assert of(split, "val") == [f"{i:03d}" for i in range(5, 100, 10)]
    assert len(of(split, "train")) == 90


@pytest.mark.parametrize(
    ("train", "fraction", "held_out"), [(10, 0.1, 2), (4, 0.3, 2), (3, 0.3, 0), (10, 0, 0)]
)
def test_one_validation_class_would_measure_nothing(train, fraction, held_out):
    names = [f"{i:03d}" for i in range(2 * train)]
    assert len(of(split_classes(names, validation=fraction), "val")) == held_out


@pytest.mark.parametrize("fraction", [-0.1, 1, 0.9])
def test_validation_must_leave_classes_to_train_on(fraction):
    with pytest.raises(UserError, match=r"dataset\.validation"):
        split_classes(TEN, validation=fraction)


def test_classes_by_list_file_or_expression(tmp_path):
    file = tmp_path / "train.txt"
    file.write_text("class1\n\nclass0 \n")
    split = split_classes(TEN, str(file), "class[89]", 0)
    assert split == {"class0": "train", "class1": "train", "class8": "test", "class9": "test"}
    listed = OmegaConf.to_object(OmegaConf.create(["class0", "class1"]))
    assert split_classes(TEN, listed, "class[89]", 0) == split


@pytest.mark.parametrize("content", [
    b"class1\r\nclass0\r\n", b"\xef\xbb\xbfclass1\nclass0", b"class1\rclass0\r",
    b"# of mine\n\nclass1  \n\tclass0\nclass1\n   \n",
])  # fmt: skip
def test_a_list_as_editors_write_it(tmp_path, content):
    (tmp_path / "train.txt").write_bytes(content)
    assert of(split_classes(TEN, str(tmp_path / "train.txt"), None, 0), "train") == TEN[:2]


def test_a_class_whose_name_begins_like_a_comment(tmp_path):
    (tmp_path / "train.txt").write_text("#1\n#2\n# none\n")
    split = split_classes([*TEN, "#1", "#2"], str(tmp_path / "train.txt"), None, 0)
    assert of(split, "train") == ["#1", "#2"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "names no class"),
        (b"\n# none\n", "names no class"),
        ("class0\nclass1\n".encode("utf-16"), "not UTF-8"),
        ("año\n".encode("latin-1"), "not UTF-8 text .byte 2 is 0xf1.: save it as UTF-8"),
        (b"class0\nclas1\n", "names clas1, .*; the nearest to clas1 is class1"),
        (b"class0, class1\n", "names class0, class1, not among the 10 classes"),
    ],
)
def test_a_list_that_is_none(tmp_path, content, said):
    file = tmp_path / "train.txt"
    file.write_bytes(content)
    with pytest.raises(UserError, match=said) as caught:
        split_classes(TEN, str(file), None, 0)
    assert "dataset.train_classes" in str(caught.value)
    assert str(file) in str(caught.value)


def test_one_given_leaves_the_rest_to_the_other():
    assert of(split_classes(TEN, None, "class[89]", 0), "train") == TEN[:8]
    assert of(split_classes(TEN, "class[0-3]", None, 0), "test") == TEN[4:]


@pytest.mark.parametrize(
    ("train", "test", "sentence"),
    [
        (["class1", "klass2"], None, "klass2, not among the 10 classes"),
        ("class[0-5]", "class[5-9]", "share class5"),
        ("class", None, "matches none of the 10 class names"),
        ("class[", None, "neither a file nor a regular expression"),
        ("class1", None, "leaves 1 classes to train on"),
        ("class.*", None, "leaves 0 classes to test on"),
        ("x" * 5000, None, "matches none of the 10 class names"),
        (5, None, "train_classes is 5; accepted: null, a list of names"),
        (None, {"class1": 1}, "test_classes is .*; accepted: null, a list of names"),
    ],
)
def test_wrong_classes(train, test, sentence):
    with pytest.raises(UserError, match=sentence):
        split_classes(TEN, train, test)


@pytest.mark.parametrize("which", ["train_classes", "test_classes"])
def test_a_list_of_classes_that_is_no_text(tmp_path, which):
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=rf"dataset\.{which}: .*list\.txt is not UTF-8"):
        split_classes(TEN, **{which: str(tmp_path / "list.txt")})


@pytest.mark.parametrize(
    ("splits", "sentence"),
    [
        (["train"] * 10, "own splits have 0 classes of test"),
        (["test"] * 9 + ["train"], "own splits have 1 class of train"),
        (["train"] * 5 + ["val"] + ["test"] * 4, "own splits have 1 class of val"),
    ],
)
def test_splits_of_the_data_set_that_measure_nothing(splits, sentence):
    """No setting of the user is blamed, and what ignores the splits is named."""
    official = dict(zip(TEN, splits, strict=True))
    with pytest.raises(UserError, match=rf"{sentence}; .*dataset\.fetch\.split=null") as caught:
        split_classes(TEN, official=official)
    assert "train_classes" not in str(caught.value)
    assert of(split_classes(TEN, "class[0-4]", validation=0, official=official), "test") == TEN[5:]


def test_two_validation_classes_of_the_data_set_are_taken():
    official = dict(zip(TEN, ["train"] * 4 + ["val"] * 2 + ["test"] * 4, strict=True))
    assert split_classes(TEN, official=official) == official


@pytest.mark.parametrize("splits", [["train", "test"], ["train", "query"], ["query", "query"]])
def test_splits_that_contradict_each_other_can_be_ignored(splits):
    with pytest.raises(UserError, match=r"dataset\.fetch\.split=null in the fetch stage ignores"):
        official_split(["a", "a"], splits)


def test_sizes_change_nothing_where_something_can_be_measured():
    sizes = dict.fromkeys(TEN, 1) | {"class0": 2, "class1": 2, "class9": 2}
    assert split_classes(TEN, validation=0.4, sizes=sizes) == split_classes(TEN, validation=0.4)


def test_validation_takes_classes_of_pairs_where_its_own_have_none():
    names = [f"{i:02d}" for i in range(40)]
    by_name = of(split_classes(names, names[:20], names[20:], 0.1), "val")
    sizes = {name: 1 if name in by_name else 2 for name in names}
    chosen = of(split_classes(names, names[:20], names[20:], 0.1, sizes=sizes), "val")
    assert len(chosen) == len(by_name) == 2
    assert all(sizes[name] == 2 for name in chosen)
    assert chosen == of(split_classes(names, names[:20], names[20:], 0.1, sizes=sizes), "val")


def test_validation_leaves_pairs_to_train_on():
    names = [f"{i:02d}" for i in range(40)]
    by_name = of(split_classes(names, names[:20], names[20:], 0.1), "val")
    sizes = dict.fromkeys(names, 1) | dict.fromkeys([*by_name, *names[20:]], 5)
    split = split_classes(names, names[:20], names[20:], 0.1, sizes=sizes)
    for which in ("train", "val", "test"):
        assert any(sizes[name] > 1 for name in of(split, which))


@pytest.mark.parametrize("pairs", [2, 3, 5])
def test_halves_each_get_classes_of_pairs(pairs):
    sizes = dict.fromkeys(TEN, 1) | dict.fromkeys(TEN[:pairs], 3)
    split = split_classes(TEN, validation=0, sizes=sizes)
    assert len(of(split, "train")) == len(of(split, "test")) == 5
    for which in ("train", "test"):
        assert any(sizes[name] > 1 for name in of(split, which))


def test_what_was_asked_for_stays_though_it_measures_nothing():
    sizes = dict.fromkeys(TEN, 1) | dict.fromkeys(TEN[:5], 3)
    assert of(split_classes(TEN, None, "class[5-9]", 0, sizes=sizes), "test") == TEN[5:]
