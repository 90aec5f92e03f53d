"""What the cells of a study amount to: means over seeds and differences from the baselines."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from rhs.study.cells import METRICS, UNTRAINED, WHICH, Cell
from rhs.study.statistics import Estimate, estimate, holm, paired


@dataclass(frozen=True)
class Row:
    """One method on one data set, by one metric, at one of WHICH.

    Attributes:
        values: by seed, of the cells that are finished.
        mean: None where a seed is missing: that would be another mean.
        missing: seeds without a value.
    """

    data: str
    method: str
    which: str
    metric: str
    values: Mapping[int, float]
    mean: Estimate | None
    missing: tuple[int, ...]


@dataclass(frozen=True)
class Comparison:
    """A method less a baseline, on one data set, seed by seed.

    Attributes:
        difference: None where one of them lacks a seed.
        corrected: p after Holm's correction, over all comparisons of this metric and which.
    """

    data: str
    method: str
    baseline: str
    which: str
    metric: str
    difference: Estimate | None
    corrected: float = math.nan

    @property
    def significant(self) -> bool:
        """Whether the interval excludes zero and the corrected p is below 0.05."""
        estimated = self.difference
        if estimated is None or math.isnan(estimated.low):
            return False
        return (estimated.low > 0 or estimated.high < 0) and self.corrected < 0.05


@dataclass(frozen=True)
class Summary:
    """Everything that tables and pictures show.

    Attributes:
        seeds: that every method is to have.
        rows, comparisons: of all data sets that are done.
        family: how many tests each p is corrected for, at most.
    """

    seeds: list[int]
    rows: list[Row]
    comparisons: list[Comparison]
    family: int

    def row(self, data: str, method: str, which: str, metric: str) -> Row:
        wanted = (data, method, which, metric)
        return next(r for r in self.rows if (r.data, r.method, r.which, r.metric) == wanted)

    def comparison(
        self, data: str, method: str, baseline: str, which: str, metric: str
    ) -> Comparison | None:
        """None of a baseline with itself."""
        wanted = (data, method, baseline, which, metric)
        found = (
            c
            for c in self.comparisons
            if (c.data, c.method, c.baseline, c.which, c.metric) == wanted
        )
        return next(found, None)


def summarize(
    finished: Iterable[tuple[Cell, dict]],
    data: Iterable[str],
    methods: list[str],
    baselines: list[str],
    seeds: list[int],
) -> Summary:
    """Means and corrected comparisons.

    Args:
        finished: cells and what came of them; failed ones count as missing.
        data: labels of the data sets that are done.
    """
    scored = {(c.data, c.method, c.seed): r["scores"] for c, r in finished if "scores" in r}
    labels, rows = list(data), list[Row]()
    for each in labels:
        for method in [UNTRAINED, *methods]:
            for which in WHICH:
                for metric in METRICS:
                    there = {s: scored.get((each, method, s)) for s in seeds}
                    values = {s: told[which][metric] for s, told in there.items() if told}
                    rows.append(_row(each, method, which, metric, values, seeds))
    comparisons: list[Comparison] = []
    family = 0
    for which in WHICH:
        for metric in METRICS:
            of_kind = [r for r in rows if (r.which, r.metric) == (which, metric)]
            compared, tests = _compared(of_kind, baselines)
            comparisons += compared
            family = max(family, tests)
    return Summary(seeds, rows, comparisons, family)


def _row(
    data: str, method: str, which: str, metric: str, values: dict[int, float], seeds: list[int]
) -> Row:
    missing = tuple(seed for seed in seeds if seed not in values)
    mean = None if missing else estimate(list(values.values()))
    return Row(data, method, which, metric, values, mean, missing)


def _compared(rows: list[Row], baselines: list[str]) -> tuple[list[Comparison], int]:
    """Every method with every baseline but itself; and how many tests, which are one family."""
    by_label = {(row.data, row.method): row for row in rows}
    compared = []
    for row in rows:
        for baseline in baselines:
            if row.method in (UNTRAINED, baseline):
                continue
            other = by_label[row.data, baseline]
            gap = row.missing or other.missing
            difference = None if gap else paired(row.values, other.values)
            compared.append(
                Comparison(row.data, row.method, baseline, row.which, row.metric, difference)
            )
    # Two baselines are compared both ways, which is one test.
    ps = {_pair(c): math.nan if c.difference is None else c.difference.p for c in compared}
    corrected = dict(zip(ps, holm(list(ps.values())), strict=True))
    made = [replace(c, corrected=corrected[_pair(c)]) for c in compared]
    return made, sum(not math.isnan(p) for p in ps.values())


def _pair(c: Comparison) -> tuple[str, frozenset[str]]:
    return c.data, frozenset((c.method, c.baseline))
