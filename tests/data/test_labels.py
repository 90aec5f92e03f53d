"""Training labels: dense numbers of the classes that occur, or of groups of them."""

import numpy as np
import pytest

from rhs.data.labels import training_labels, values_of
from rhs.errors import UserError

NAMES = ["U+41 LATIN CAPITAL A", "U+42 LATIN CAPITAL B", "U+61 LATIN SMALL A", "U+391 GREEK A"]


def test_classes_that_occur_are_numbered_from_0_by_name():
    labels, names = training_labels(np.array([3, 1, 1, 3]), ["a", "c", "d", "b"])
    assert names == ["b", "c"]
    assert labels.tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize(
    ("coarse", "expected"),
    [
        (r"U\+\w+ (\w+)", ["LATIN", "LATIN", "LATIN", "GREEK"]),
        (r"LATIN \w+|GREEK", ["LATIN CAPITAL", "LATIN CAPITAL", "LATIN SMALL", "GREEK"]),
    ],
)
def test_groups_are_what_the_expression_finds(coarse, expected):
    labels, names = training_labels(np.arange(4), NAMES, coarse)
    assert [names[label] for label in labels] == expected
    assert names == sorted(set(expected))


def test_an_expression_that_finds_nothing_names_the_class():
    with pytest.raises(UserError, match=r"dataset\.coarse is 'LATIN'.*'U\+391 GREEK A'"):
        training_labels(np.arange(4), NAMES, "LATIN")
    # of a class that has no image it is not asked
    assert training_labels(np.arange(3), NAMES, "LATIN")[1] == ["LATIN"]


def test_not_an_expression():
    with pytest.raises(UserError, match=r"dataset\.coarse is '\(', which is not a regular"):
        training_labels(np.arange(4), NAMES, "(")


def test_names_that_are_numbers_are_continuous_labels():
    np.testing.assert_array_equal(values_of(["1", "2.5", "-3"]), [[1], [2.5], [-3]])
    assert values_of(["1", "old"]) is None
    for bad in ("nan", "inf", "1.0"):  # not a number, not finite, not another one
        assert values_of(["1", bad]) is None
    assert len(np.unique(values_of(["1700000001", "1700000004"]))) == 2


@pytest.mark.parametrize("wrong", [5, ["a"], True])
def test_not_a_text(wrong):
    with pytest.raises(UserError, match=r"dataset\.coarse is .*regular expression or null"):
        training_labels(np.arange(4), NAMES, wrong)


def test_what_an_expression_may_leave_out_is_a_group_too():
    assert training_labels(np.arange(4), NAMES, r"U(?:\+4(1))?")[1] == ["", "1"]


def test_no_images():
    labels, names = training_labels(np.array([], dtype=np.int64), NAMES)
    assert len(labels) == 0
    assert names == []
