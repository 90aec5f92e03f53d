"""Intervals, paired tests and Holm's correction, against SciPy and known values."""

import math

import pytest
from scipy import stats

from rhs.study.statistics import estimate, holm, paired

OURS = {0: 0.512, 1: 0.498, 2: 0.530, 3: 0.507, 4: 0.519}
THEIRS = {0: 0.501, 1: 0.495, 2: 0.511, 3: 0.509, 4: 0.500}


def test_a_mean_has_students_interval():
    values = list(OURS.values())
    made, expected = estimate(values), stats.ttest_1samp(values, 0)
    interval = expected.confidence_interval(0.95)
    assert made.mean == pytest.approx(sum(values) / 5)
    assert (made.low, made.high) == pytest.approx((interval.low, interval.high))
    assert made.p == pytest.approx(expected.pvalue)
    assert made.count == 5


def test_an_interval_of_known_values():
    """1, 2, 3: mean 2, standard error 1 / sqrt(3), t(2) of 97.5 % 4.302653."""
    made = estimate([1.0, 2.0, 3.0])
    assert made.high - made.mean == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)


@pytest.mark.parametrize("values", [[0.5], [0.5, 0.5], [-0.1] * 3])
def test_equal_values_tell_nothing_of_their_spread(values):
    """Of some thousand queries two seeds may well find equally many more."""
    made = estimate(values)
    assert made.mean == pytest.approx(values[0])
    assert all(math.isnan(number) for number in (made.low, made.high, made.p))


def test_the_same_runs_do_not_differ():
    made = paired(OURS, dict(OURS))
    assert (made.mean, made.low, made.high, made.p) == (0, 0, 0, 1)


def test_differences_are_paired_by_seed():
    expected = stats.ttest_rel(list(OURS.values()), list(THEIRS.values()))
    interval = expected.confidence_interval(0.95)
    shuffled = {seed: THEIRS[seed] for seed in (3, 1, 4, 0, 2)}
    made = paired(OURS, shuffled)
    assert made.p == pytest.approx(expected.pvalue)
    assert (made.low, made.high) == pytest.approx((interval.low, interval.high))
    assert paired(shuffled, OURS).mean == pytest.approx(-made.mean)


def test_other_seeds_cannot_be_paired():
    with pytest.raises(ValueError, match=r"\[0, 1, 2, 3, 4\] cannot be paired with \[0, 1\]"):
        paired(OURS, {0: 0.5, 1: 0.5})


def test_holms_correction_of_known_values():
    """The smallest of four times 4, the next times 3, ..., none below the one before."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_what_is_no_test_does_not_count():
    corrected = holm([0.02, math.nan, 0.03])
    assert corrected[0] == pytest.approx(0.04)
    assert math.isnan(corrected[1])
    assert corrected[2] == pytest.approx(0.04)
