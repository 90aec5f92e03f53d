"""A study as a whole: kept by cell, continued, with gaps where cells fail."""

import json
import shlex

import pytest
from tiny_study import here, scores, small_study

from rhs.errors import UserError
from rhs.study import study as module
from rhs.study.cells import Cells, make_cell, selected_scores
from rhs.study.study import Study
from rhs.tuning.search import AllFailed, SearchResult


class Fake:
    """Stands in for training and scoring a cell: counts, and fails where it is told to."""

    def __init__(self, monkeypatch):
        self.ran: list[tuple[str, int]] = []
        self.failing: dict[tuple[str, int], Exception] = {}
        monkeypatch.setattr("rhs.study.cells.run_cell", self)

    def __call__(self, params, shards, folder):
        if params.train.epochs == 0:
            return scores(0.2)
        which = params.method["name"], params.seed
        self.ran.append(which)
        if which in self.failing:
            raise self.failing[which]
        return scores(0.5 + 0.01 * params.seed + 0.1 * (which[0] == "rhs_npair"))


@pytest.fixture
def fake(monkeypatch) -> Fake:
    monkeypatch.setattr(module, "draw_all", lambda *_: None)
    monkeypatch.setattr("rhs.tuning.results.time.strftime", lambda *_: "2026-01-02")
    return Fake(monkeypatch)


def study(project, tiny_shards, said=None, **more) -> Study:
    said = [] if said is None else said
    settings = small_study(**more)
    folder = project / "studies/small"
    return Study(settings, {"tiny": tiny_shards}, folder, "command", execute=here, say=said.append)


def test_every_cell_runs_once_and_its_result_is_kept(project, tiny_shards, fake):
    summary = study(project, tiny_shards).run()
    assert sorted(fake.ran) == sorted((m, s) for m in ("npair", "rhs_npair") for s in range(2))
    compared = summary.comparison("tiny", "rhs", "npair", "chosen", "recall@1")
    assert compared.difference.mean == pytest.approx(0.1)
    results = project / "studies/small/results"
    assert {file.name for file in results.iterdir()} == {
        "table.md",
        "table.csv",
        "cells.csv",
    }
    text = (results / "table.md").read_text()
    again = study(project, tiny_shards).run()
    assert len(fake.ran) == 4
    assert again == summary
    assert (results / "table.md").read_text() == text


def test_more_seeds_run_only_what_is_new(project, tiny_shards, fake):
    study(project, tiny_shards).run()
    study(project, tiny_shards, seeds=[0, 1, 2]).run()
    assert sorted(fake.ran[4:]) == [("npair", 2), ("rhs_npair", 2)]


def test_a_killed_study_goes_on(project, tiny_shards, fake):
    fake.failing[("npair", 1)] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        study(project, tiny_shards).run()
    fake.failing.clear()
    study(project, tiny_shards).run()
    assert len(fake.ran) == 5  # the one that was cut off, twice


def test_what_failed_is_told_and_tried_again(project, tiny_shards, fake):
    fake.failing[("npair", 1)] = UserError("The loss is not finite.")
    fake.failing[("rhs_npair", 0)] = MemoryError("no memory")
    said = []
    summary = study(project, tiny_shards, said).run()
    assert summary.row("tiny", "npair", "last", "map@r").missing == (1,)
    assert summary.row("tiny", "rhs", "last", "map@r").missing == (0,)
    text = (project / "studies/small/results/table.md").read_text()
    assert "- tiny npair seed 1: The loss is not finite." in text
    assert "tiny rhs seed 0 failed: MemoryError: no memory" in said
    fake.failing.clear()
    again = study(project, tiny_shards).run()
    assert sorted(fake.ran[4:]) == [("npair", 1), ("rhs_npair", 0)]
    assert again.row("tiny", "rhs", "last", "map@r").mean is not None


def test_every_method_gets_the_same_search_and_cells_get_what_it_found(
    project, tiny_shards, fake, monkeypatch
):
    asked = []

    def search(base, settings, shards, folder, tracker, say):
        asked.append((base, settings.trials, settings.seed))
        if "method=npair" in base:
            raise AllFailed("All 4 trials failed.")
        states = ["finished", "finished", "stopped", "failed"]
        return SearchResult(["train.lr=0.007"], 0.7, 0, [{"state": s} for s in states], folder)

    monkeypatch.setattr(module, "search", search)
    space = {"train.lr": {"low": 1e-3, "high": 1e-2}}
    tune = {"trials": 4, "seed": 77, "space": space}
    summary = study(project, tiny_shards, tune=tune, methods=METHODS).run()
    assert [(trials, seed) for _, trials, seed in asked] == [(4, 77), (4, 77)]
    assert all("seed=77" in base for base, _, _ in asked)
    assert fake.ran == [("rhs_npair", seed) for seed in range(2)]
    assert summary.row("tiny", "npair", "last", "map@r").missing == (0, 1)
    text = (project / "studies/small/results/table.md").read_text()
    assert "`method=rhs_npair train.lr=0.007` | 70.0 | 2 finished, 1 stopped, 1 failed |" in text
    assert "All 4 trials failed." in text
    assert "tuned by 4 trials on each data set" in text
    files = (project / "studies/small/cells").glob("*.json")
    commands = [json.loads(file.read_text())["command"] for file in files]
    trained = [command for command in commands if command]
    assert len(trained) == 2
    assert all("train.lr=0.007" in command for command in trained)


def test_what_is_wrong_with_the_cluster_ends_the_study(project, tiny_shards, fake, monkeypatch):
    def search(*_):
        raise UserError("A worker needs 1 GPU.")

    monkeypatch.setattr(module, "search", search)
    tune = {"trials": 4, "space": {"train.lr": {"low": 1e-3, "high": 1e-2}}}
    with pytest.raises(UserError, match="needs 1 GPU"):
        study(project, tiny_shards, tune=tune).run()


def test_the_untrained_model_is_scored_and_compared_with_nothing(project, tiny_shards, fake):
    summary = study(project, tiny_shards).run()
    assert summary.row("tiny", "untrained", "last", "recall@1").mean.mean == pytest.approx(0.2)
    assert summary.comparison("tiny", "untrained", "npair", "last", "recall@1") is None
    text = (project / "studies/small/results/table.md").read_text()
    assert "| untrained | 20.0 | 20.0 |" in text


METHODS = {
    "npair": {"overrides": ["method=npair"]},
    "rhs": {"overrides": ["method=rhs_npair"]},
}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"base": ["train.epoch=2"]}, "train.epoch"),
        ({"base": ["train.classes=400"]}, "train.classes"),
        ({"methods": {"a": {"overrides": ["method=nothing"]}}, "baselines": []}, "method=nothing"),
        ({"tune": {"trials": 2, "space": {"train.rl": {"low": 1, "high": 2}}}}, "train.rl"),
        ({"tune": {"trials": 2, "space": {"train.lr": {"low": -1, "high": 2}}}}, "holds -1"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_runs(project, tiny_shards, fake, more, said):
    with pytest.raises(UserError, match=said):
        study(project, tiny_shards, **more).check()
    assert fake.ran == []


def test_held_out_classes_are_needed(project, tmp_path, fake):
    from tiny_project import write_shards

    bare = write_shards(tmp_path / "bare", train=[4] * 6, test=[4, 4])
    with pytest.raises(UserError, match="tiny has no held-out classes"):
        study(project, bare).check()


def test_a_cell_is_the_run_that_its_command_makes(project, tiny_shards):
    from rhs.config.compose import compose
    from rhs.data.shards import load_manifest
    from rhs.run import identify

    settings = small_study()
    cell = make_cell("tiny", "rhs", 4, settings.overrides("tiny", "rhs", "seed=9"), tiny_shards)
    words = shlex.split(cell.command)
    assert words[:3] == ["dvc", "exp", "run"]
    assert words[3::2] == ["-S"] * len(cell.overrides)
    digest = load_manifest(tiny_shards)["digest"]
    assert identify(compose(words[4::2]), digest).name == cell.run
    assert cell.params.seed == 4


def test_cells_run_in_ray(ray_cluster, project, tiny_shards):
    """Trained, scored and kept; then their checkpoints are gone."""
    folder = project / "studies/small"
    settings = small_study(seeds=[0], methods={"rhs": METHODS["rhs"]}, baselines=[])
    made = Study(settings, {"tiny": tiny_shards}, folder, "command", say=lambda line: None)
    summary = made.run()
    assert 0 < summary.row("tiny", "untrained", "last", "recall@1").mean.mean <= 1
    cell, result = made.finished[-1]
    assert len(result["history"]) == 2
    for which in ("chosen", "last"):
        row = summary.row("tiny", "rhs", which, "recall@1")
        assert 0 < row.mean.mean <= 1
        assert row.values[0] == result["scores"][which]["recall@1"]
    best = max(result["history"], key=lambda row: row["val_recall@1"])
    assert result["scores"]["chosen"]["epoch"] == best["epoch"]
    assert result["scores"]["last"]["epoch"] == 2
    results = {file.name for file in (folder / "results").iterdir()}
    assert results == {"table.md", "table.csv", "cells.csv", "scores.png"}
    kept = Cells(folder / "cells")
    assert selected_scores(kept.read(cell), "best")["scores"] == result["scores"]
    by_area = max(result["history"], key=lambda row: row["val_map@r"])
    assert (
        selected_scores(kept.read(cell), "best_map@r")["scores"]["chosen"]["epoch"]
        == by_area["epoch"]
    )
    assert not (kept.home(cell) / "checkpoints").exists()


def test_the_objective_decides_which_epoch_is_chosen(project, tiny_shards, fake):
    by_area = {"trials": 0, "objective": "map@r"}
    chosen = study(project, tiny_shards, tune=by_area).run()
    assert chosen.row("tiny", "npair", "chosen", "recall@1").mean.mean == pytest.approx(0.515)
    assert "the highest MAP@R" in (project / "studies/small/results/table.md").read_text()
    again = study(project, tiny_shards).run()  # the same cells, told otherwise
    assert again.row("tiny", "npair", "chosen", "recall@1").mean.mean == pytest.approx(0.505)
    assert len(fake.ran) == 4
