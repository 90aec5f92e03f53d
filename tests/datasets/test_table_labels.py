"""Labels that mean none, and labels that look alike."""

import pytest

from rhs.datasets.table_labels import MISSING, alike, empty_words
from rhs.errors import UserError


def test_words_that_mean_no_label():
    assert empty_words(None) is MISSING
    assert {"na", "n/a", "nan", "none", "null", "<na>"} <= MISSING
    assert empty_words(["?", " Unknown "]) == {"?", "unknown"}
    assert empty_words([]) == frozenset()


@pytest.mark.parametrize("setting", ["NA", 5, [None], {"a": 1}])
def test_other_settings_are_refused(setting):
    with pytest.raises(UserError, match=r"dataset.fetch.empty is .*; accepted: null"):
        empty_words(setting)


@pytest.mark.parametrize(
    "labels",
    [
        ["1", "01"],
        ["1", "1.0"],
        ["cat", "Cat"],
        ["red cat", "red_cat"],
        ["a", "a  "],
        ["caf\u00e9", "cafe\u0301"],
    ],
)
def test_labels_that_differ_in_writing_alone_are_told(labels):
    first, second = sorted(labels)
    assert f"{first!r} and {second!r}" in alike([*labels, "dog"])


@pytest.mark.parametrize("labels", [[], ["1", "10"], ["a", "b"], ["1.5", "1"], ["1e2", "100"]])
def test_other_labels_are_not(labels):
    assert alike(labels) == ""


def test_many_are_counted():
    assert alike([f"{i}{c}" for i in range(5) for c in "aA"]).endswith(" and 2 more")
