"""The studies under benchmarks/, on a data set of a few small pictures."""

import json
import sys

import numpy as np
import pytest
from tiny import ROOT, SMALL, write_shards

from benchmarks import collapse

# class000 to class003 are the group "class00", the other four the group "class0".
GROUPS = "dataset.coarse='class00(?=[0-3])|class0'"


def study(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> dict:
    """What a run of `python -m benchmarks.collapse` leaves, two arms and one seed if not told."""
    small = [word for word in SMALL if not word.startswith(("train.", "model=", "tracking="))]
    command = [*small, GROUPS, "train.classes=2", "train.per_class=4", "--out=results", *arguments]
    monkeypatch.setattr(sys, "argv", ["collapse", *command])
    collapse.main()
    with open("results/collapse_glyphs.json") as file:
        return json.load(file)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with the project's configuration and eight small training classes."""
    (tmp_path / "conf").symlink_to(ROOT / "conf")
    write_shards(tmp_path / "data/shards/glyphs", train=[4] * 8, val=[], test=[4] * 3)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_study_of_collapse_has_its_columns_and_curves(project, monkeypatch):
    made = study(monkeypatch, "train.epochs=1", "--arms=random,easy", "--seeds=0")
    assert (made["groups"], made["classes"], made["unseen_classes"]) == (2, 8, 3)
    assert [arm["name"] for arm in made["arms"]] == ["random", "easy"]
    for arm in made["arms"]:
        (cell,) = arm["cells"]
        assert list(cell["scores"]) == list(made["columns"]) == list(collapse.COLUMNS)
        assert [row["epoch"] for row in cell["curve"]] == [0, 1]
        assert cell["curve"][1]["recall_seen"] == cell["scores"]["recall_seen"]
    first, second = (arm["cells"][0] for arm in made["arms"])
    assert first["curve"][0] == second["curve"][0]  # the same untrained network
    assert first["curve"][1] != second["curve"][1]
    text = (project / "results/collapse_glyphs.md").read_text()
    assert "--seeds=0 --arms=random,easy" in text
    for title, note, _ in collapse.COLUMNS.values():
        assert f"{title}, {note}" in text


def test_a_study_continues_where_it_was_cut_off(project, monkeypatch):
    arguments = ("train.epochs=2", "--arms=easy", "--seeds=1")
    whole = study(monkeypatch, *arguments)
    (kept,) = project.glob("runs/*/collapse.json")
    log = kept.with_suffix(".jsonl")
    for lost in (0, 1):  # after the last measurement; between the last epoch and its measurement
        kept.unlink()
        log.write_text("".join(log.read_text().splitlines(True)[: 2 - lost]))
        assert study(monkeypatch, *arguments)["arms"] == whole["arms"]


def test_the_spread_tells_collapsed_groups_from_open_ones():
    random = np.random.default_rng(0)
    groups, labels = np.repeat([0, 1], 60), np.repeat(np.arange(6), 20)
    group_at, class_at = 5 * np.eye(2, 8)[groups], np.eye(6, 8, k=2)[labels]
    noise = 0.05 * random.normal(size=(120, 8))
    collapsed = collapse.spread(group_at + noise, labels, groups)
    kept = collapse.spread(group_at + 3 * class_at + noise, labels, groups)
    assert collapsed["intra_inter_ratio"] < 0.1 < kept["intra_inter_ratio"]
    assert collapsed["class_share"] < 0.1
    assert kept["class_share"] > 0.95
    assert collapsed["effective_rank"] < 1.1
    assert kept["effective_rank"] > 1.5


def test_a_spread_of_points_in_one_place_is_no_error():
    told = collapse.spread(np.ones((6, 3)), np.repeat([0, 1, 2], 2), np.repeat([0, 1], 3))
    assert all(np.isfinite(value) for value in told.values())
