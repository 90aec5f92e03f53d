"""The section about class collapse: there with a study, and true to it."""

from __future__ import annotations

import copy
import re
import statistics

import pytest
from pages import NASTY, clusters, write

from rhs.report.run.collapse import collapse_section

COLUMNS = {
    "recall_seen": {"title": "Recall@1, classes", "note": "training images", "percent": True},
    "effective_rank": {"title": "Effective rank", "note": "directions filled", "percent": False},
}
# Of each arm and seed: the values of both columns at epochs 0, 1 and 2.
RECALL = {
    "random": [[0.40, 0.35, 0.3125], [0.40, 0.30, 0.2045]],
    "easy": [[0.40, 0.55, 0.6155], [0.40, 0.45, 0.5855]],
}


def arm(name: str, curves: list[list[float]]) -> dict:
    cells = []
    for seed, values in enumerate(curves):
        curve = [
            {"epoch": i, "recall_seen": value, "effective_rank": 10 * value}
            for i, value in enumerate(values)
        ]
        scores = {column: curve[-1][column] for column in COLUMNS}
        cells.append({"seed": seed, "scores": scores, "curve": curve})
    return {"name": name, "title": f"{name.capitalize()} positives", "cells": cells}


def study(**changed) -> dict:
    whole = {
        "dataset": "made-up",
        "command": f"python -m benchmarks.collapse {NASTY}",
        "machine": "a machine",
        "date": "2026-11-22",
        "groups": 9,
        "classes": 1234,
        "unseen_classes": 56,
        "columns": COLUMNS,
        "arms": [arm("untrained", [[0.4], [0.4]])]
        + [arm(name, curves) for name, curves in RECALL.items()],
    }
    return whole | changed


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    return write(folder, *clusters(24, 4), collapse=study())[0]


def test_the_section_is_there_with_a_study_alone(tmp_path, page):
    without, _ = write(tmp_path, *clusters(24, 4))
    for index, expected in ((page, True), (without, False)):
        assert ("collapse" in [a.get("id") for _, a in index.tags]) == expected
        assert ("#collapse" in [a.get("href") for _, a in index.tags]) == expected
        assert ("Class collapse" in index.text) == expected


def test_the_table_has_the_numbers_of_the_study(page):
    text = " ".join(page.text.split())
    for column, scale, unit in (("recall_seen", 100, " %"), ("effective_rank", 1, "")):
        for one in study()["arms"]:
            values = [scale * cell["scores"][column] for cell in one["cells"]]
            mean, spread = statistics.fmean(values), statistics.stdev(values)
            assert f"{mean:.1f} ± {spread:.1f}{unit}" in text
    assert "1,234 training classes are put into 9 groups" in text
    assert f"python -m benchmarks.collapse {NASTY}" in text
    assert "over 2 seeds" in text


def test_the_rows_are_the_arms_in_order():
    section = collapse_section(study())
    assert [row[0] for row in section.rows] == [
        "Untrained positives",
        "Random positives",
        "Easy positives",
    ]
    assert [row[1][0] for row in section.rows] == ["40.0 ± 0.0 %", "25.9 ± 7.6 %", "60.1 ± 2.1 %"]


def test_each_figure_has_a_line_for_each_seed_and_one_for_their_mean():
    section = collapse_section(study())
    for figure, name in ((section.recall, "recall-seen"), (section.rank, "effective-rank")):
        lines = re.findall(rf'id="collapse-{name}-((?:random|easy|untrained)-[\w-]+)"', figure)
        assert sorted(lines) == [
            "easy-mean",
            "easy-seed-0",
            "easy-seed-1",
            "random-mean",
            "random-seed-0",
            "random-seed-1",
        ]
    assert [one.title for one in section.arms] == ["Random positives", "Easy positives"]
    assert len({one.color for one in section.arms}) == 2


def test_the_mean_line_is_the_mean_of_the_seeds():
    def path(figure: str, line: str) -> list[tuple[float, float]]:
        found = re.search(rf'id="collapse-recall-seen-{line}">\s*<path d="([^"]+)"', figure)
        numbers = [float(number) for number in re.findall(r"-?[\d.]+", found[1])]
        return list(zip(numbers[::2], numbers[1::2], strict=True))

    figure = collapse_section(study()).recall
    seeds = [path(figure, f"random-seed-{seed}") for seed in (0, 1)]
    mean = path(figure, "random-mean")
    assert len(mean) == 3
    for (x, y), (x0, y0), (_, y1) in zip(mean, *seeds, strict=True):
        assert x == pytest.approx(x0)
        assert y == pytest.approx((y0 + y1) / 2, abs=1e-4)


def test_one_seed_has_no_deviation(tmp_path):
    single = copy.deepcopy(study())
    for one in single["arms"]:
        del one["cells"][1:]
    index, _ = write(tmp_path, *clusters(24, 4), collapse=single)
    assert "31.2 %" in index.text
    assert "±" not in index.text
    assert "over 1 seeds" not in index.text


def test_no_study_no_section():
    assert collapse_section(None) is None
