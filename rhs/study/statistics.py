"""Means over seeds and differences between methods, with their intervals and significance."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

LEVEL = 0.95  # of the intervals


@dataclass(frozen=True)
class Estimate:
    """A mean, and where the true one lies.

    Attributes:
        low, high: the t-interval of level `LEVEL`.
        p: of a true mean of zero, two-sided.
        count: values.

    The interval and p are NaN where values tell nothing of their spread.
    """

    mean: float
    low: float
    high: float
    p: float
    count: int


def estimate(values: Sequence[float]) -> Estimate:
    """Student's t: mean, interval and the test against zero.

    One value, and values that are equal, as counts may be by chance, tell nothing of the spread;
    all at zero there is no difference, and p is 1.

    Args:
        values: one at least; taken as independent and normal.

    Source: Student, The probable error of a mean, Biometrika 1908.
    """
    mean, count = float(np.mean(values)), len(values)
    error = float(np.std(values, ddof=1)) / math.sqrt(count) if count > 1 else 0.0
    # What rounding leaves of equal values is no spread.
    if error <= 1e-12 * max(abs(float(value)) for value in values):
        if count > 1 and mean == 0:
            return Estimate(0.0, 0.0, 0.0, 1.0, count)
        return Estimate(mean, math.nan, math.nan, math.nan, count)
    half = float(stats.t.ppf((1 + LEVEL) / 2, count - 1)) * error
    p = float(2 * stats.t.sf(abs(mean) / error, count - 1))
    return Estimate(mean, mean - half, mean + half, p, count)


def paired(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Estimate:
    """Of the differences, each between two runs of one seed: a paired t-test.

    Args:
        ours, theirs: values by seed.

    Raises:
        ValueError: they are not of the same seeds.
    """
    if set(ours) != set(theirs):
        raise ValueError(f"values of seeds {sorted(ours)} cannot be paired with {sorted(theirs)}")
    return estimate([ours[seed] - theirs[seed] for seed in sorted(ours)])


def holm(ps: Sequence[float]) -> list[float]:
    """P-values corrected for their number, so that the chance of any false finding is bounded.

    Args:
        ps: of a family of tests; NaN is no test: it stays, and does not count.

    Source: Holm, A simple sequentially rejective multiple test procedure, Scand. J. Statist. 1979.
    """
    there = [i for i, p in enumerate(ps) if not math.isnan(p)]
    corrected, least = list(ps), 0.0
    for rank, i in enumerate(sorted(there, key=lambda i: ps[i])):
        least = max(least, min(1.0, (len(there) - rank) * ps[i]))
        corrected[i] = least
    return corrected
