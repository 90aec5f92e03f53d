"""Means, differences and gaps, and the tables that show them."""

import csv
import io

import pandas as pd
import pytest
from tiny_study import scores, small_study

from rhs.study.cells import Cell, selected_scores
from rhs.study.plots import draw_all
from rhs.study.settings import Method
from rhs.study.summary import summarize
from rhs.study.tables import TunedSetting, cells_csv, markdown, table_csv
from rhs.tuning.results import Provenance

RECALLS = {"npair": (0.50, 0.52, 0.51), "rhs": (0.55, 0.56, 0.56), "symm": (0.50, 0.51, 0.53)}
ORIGIN = Provenance(
    "python -m pipelines.study", {"tiny": "da7a"}, "2 x Chip", code="c0de", date="2026-01-02"
)


def cell(method: str, seed: int) -> Cell:
    given = [f"method={method}", "dataset.source=my photos.tar", f"seed={seed}"]
    return Cell("tiny", method, seed, given, None, "", f"tiny-{method}-{seed}", {})


def finished(without: tuple = ()) -> list:
    made = []
    for method, recalls in RECALLS.items():
        for seed, recall in enumerate(recalls):
            failed = {"failed": "The loss is not finite.", "again": False}
            one = (
                failed
                if (method, seed) in without
                else selected_scores(scores(recall, recall - 0.01), "best")
            )
            made.append((cell(method, seed), one))
    return made


def summary_of(cells, seeds=(0, 1, 2)):
    return summarize(cells, ["tiny"], list(RECALLS), ["symm", "npair"], list(seeds))


def tables(cells, seeds=(0, 1, 2)) -> str:
    methods = {label: {"overrides": [f"method={label}"]} for label in RECALLS}
    more = {"seeds": list(seeds), "baselines": ["symm", "npair"], "methods": methods}
    tuned = {
        ("tiny", label): TunedSetting(["train.lr=0.1"], 0.61, {"finished": 8}) for label in RECALLS
    }
    settings = small_study(**more)
    assert settings.methods["rhs"] == Method(["method=rhs"])
    return markdown(settings, summary_of(cells, seeds), tuned, cells, ORIGIN)


def test_means_and_differences():
    summary = summary_of(finished())
    row = summary.row("tiny", "rhs", "chosen", "recall@1")
    assert row.mean.mean == pytest.approx(0.5567, abs=1e-4)
    assert summary.row("tiny", "rhs", "last", "map@r").mean.mean == pytest.approx(0.2733, abs=1e-4)
    compared = summary.comparison("tiny", "rhs", "npair", "chosen", "recall@1")
    assert compared.difference.mean == pytest.approx(0.14 / 3)
    assert compared.difference.p < compared.corrected <= 3 * compared.difference.p
    assert compared.significant
    mirrored = summary.comparison("tiny", "npair", "symm", "chosen", "recall@1")
    forth = summary.comparison("tiny", "symm", "npair", "chosen", "recall@1")
    assert mirrored.corrected == forth.corrected
    assert not summary.comparison("tiny", "symm", "npair", "chosen", "recall@1").significant
    assert summary.comparison("tiny", "npair", "npair", "chosen", "recall@1") is None
    assert summary.family == 3  # pairs of three methods


def test_a_missing_seed_leaves_a_gap_and_no_other_mean():
    summary = summary_of(finished(without=[("npair", 1)]))
    row = summary.row("tiny", "npair", "chosen", "recall@1")
    assert row.mean is None
    assert row.missing == (1,)
    assert summary.comparison("tiny", "rhs", "npair", "chosen", "recall@1").difference is None
    assert summary.comparison("tiny", "rhs", "symm", "chosen", "recall@1").difference is not None
    assert summary.family == 1


def test_the_table_says_it_all():
    text = tables(finished())
    assert "| rhs | 55.7 [54.2, 57.1] | 54.7 [53.2, 56.1] |" in text
    assert "| less npair | Recall@1, chosen | Recall@1, last |" in text
    assert "| rhs | **+4.67 [+3.23, +6.10], p = " in text
    assert "| rhs | `method=rhs train.lr=0.1` | 61.0 | 8 finished |" in text
    assert "Machine: 2 x Chip. Date: 2026-01-02." in text
    assert "3 seed(s): fewer than 5" in text
    assert "dvc exp run -S method=npair -S 'dataset.source=my photos.tar' -S seed=0" in text
    assert "failed" not in text


def test_failures_are_told():
    text = tables(finished(without=[("npair", 1)]))
    assert "| npair | - (2 of 3 seeds) |" in text
    assert "- tiny npair seed 1: The loss is not finite." in text


def test_one_seed_has_no_intervals():
    one = [(c, r) for c, r in finished() if c.seed == 0]
    text = tables(one, seeds=[0])
    assert "| rhs | 55.0 | 54.0 | 27.5 | 27.0 |" in text
    assert "| rhs | +5.00 | +5.00 |" in text
    assert "nan" not in text


def test_csv_for_machines():
    cells = finished(without=[("npair", 1)])
    lines = list(csv.DictReader(io.StringIO(table_csv(summary_of(cells)))))
    mean = next(x for x in lines if x["method"] == "rhs" and not x["baseline"])
    assert float(mean["mean"]) == pytest.approx(0.5567, abs=1e-4)
    gap = next(x for x in lines if x["method"] == "npair" and not x["baseline"])
    assert (gap["seeds"], gap["mean"]) == ("2", "")
    frame = pd.read_csv(io.StringIO(table_csv(summary_of(cells))))
    numbers = frame[["seeds", "mean", "low", "high", "p", "p_holm"]]
    assert all(kind.kind in "if" for kind in numbers.dtypes), "a column of numbers each"
    assert len(pd.read_csv(io.StringIO(cells_csv(cells)))) == len(cells)
    told = list(csv.DictReader(io.StringIO(cells_csv(cells))))
    assert told[1]["failed"] == "The loss is not finite."
    assert told[0]["chosen_recall@1"] == "0.5"
    assert told[0]["command"].startswith("dvc exp run -S method=npair")


@pytest.mark.parametrize("seeds", [[0], [0, 1, 2]])
def test_pictures_are_drawn(tmp_path, seeds):
    cells = [(c, r) for c, r in finished(without=[("symm", 0)]) if c.seed in seeds]
    draw_all(tmp_path, summary_of(cells, seeds), ["tiny"], list(RECALLS), ["symm", "npair"])
    assert {path.name for path in tmp_path.iterdir()} == {"scores.png", "differences.png"}
