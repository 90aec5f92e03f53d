"""Studies in benchmarks/results: tables are of their cells, and texts quote the tables."""

import csv
import re
from types import SimpleNamespace

import pytest
from tiny_project import ROOT

from rhs.study.cells import METRICS, UNTRAINED, WHICH, Cell
from rhs.study.summary import summarize
from rhs.study.tables import _differences, _scores

RESULTS = ROOT / "benchmarks/results"
STUDIES = sorted(RESULTS.glob("study_*.csv"))
QUOTED = re.compile(
    r"([+-]?\d+\.\d\d)\*{0,2} \((-?\d+\.\d\d) to (-?\d+\.\d\d)[,)]"  # a difference, its interval
)


@pytest.mark.parametrize("file", STUDIES, ids=lambda file: file.stem)
def test_tables_are_those_of_the_cells(file):
    table = file.with_suffix(".md").read_text().splitlines()
    finished = []
    for row in csv.DictReader(file.open()):
        scores = {w: {m: float(row[f"{w}_{m}"]) for m in METRICS} for w in WHICH}
        name = row["data"], row["method"], int(row["seed"])
        finished.append((Cell(*name, [], None, "", row["run"], {}), {"scores": scores}))
    data, methods, seeds = (
        list(dict.fromkeys(getattr(cell, what) for cell, _ in finished))
        for what in ("data", "method", "seed")
    )
    methods.remove(UNTRAINED)
    baselines = re.findall(r"^\| less (\w+) \|", "\n".join(table), re.MULTILINE)
    baselines = list(dict.fromkeys(baselines))
    assert baselines
    summary = summarize(finished, data, methods, baselines, seeds)
    settings = SimpleNamespace(methods=methods, baselines=baselines)
    for each in data:
        for line in _scores(settings, summary, each):
            assert line in table
        for baseline in baselines:
            for line in _differences(settings, summary, each, baseline):
                assert line in table


@pytest.mark.parametrize("page", ["docs/results.md", "docs/studies.md"])
def test_quoted_differences_are_in_the_tables(page):
    tables = "".join(file.with_suffix(".md").read_text() for file in STUDIES)
    text = " ".join((ROOT / page).read_text().split())
    quoted = QUOTED.findall(text)
    assert len(quoted) > 5
    for mean, low, high in quoted:
        signed = f"{float(mean):+.2f} [{float(low):+.2f}, {float(high):+.2f}]"
        assert signed in tables, f"{page} quotes {mean} ({low} to {high})"
