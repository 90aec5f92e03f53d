"""One trial: trained in this process, continued from its checkpoints, its errors told."""

import errno

import pytest
from tiny_project import SMALL, changed

from rhs.data.shards import load_manifest
from rhs.errors import UserError
from rhs.training.checkpointer import TrainingStopped
from rhs.tuning.search_space import read_space
from rhs.tuning.trial import check_range_ends, home_of, run_trial, trial_params, tune_trainable


@pytest.fixture
def params(project):
    return trial_params([*SMALL, "method=npair", "cluster.checkpoint.every_steps=1"])


def test_the_parameters_fit_another_process(params, project):
    assert params.cluster.num_workers == 1
    assert params.cluster.cache_folder == str(project / "data/decoded")
    assert trial_params([*SMALL], 2).cluster.num_workers == 2


def test_it_continues_and_tells_all_epochs_again(params, tiny_shards, tmp_path):
    straight = run_trial(params, tiny_shards, tmp_path / "straight", lambda row: None)
    assert [row["epoch"] for row in straight] == [1, 2, 3]
    rows = []
    with pytest.raises(TrainingStopped):
        run_trial(
            params,
            tiny_shards,
            tmp_path / "trial",
            rows.append,
            lambda line: None,
            lambda: len(rows) == 2,
        )
    rows.clear()
    history = run_trial(params, tiny_shards, tmp_path / "trial", rows.append)
    assert history == straight
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert "continuing after" in (tmp_path / "trial/log.txt").read_text()
    rows.clear()
    assert run_trial(params, tiny_shards, tmp_path / "trial", rows.append) == straight
    assert rows == straight


@pytest.fixture
def reports(monkeypatch):
    from ray import tune

    told = []
    monkeypatch.setattr(tune, "report", told.append)
    return told


def tell(config, shards, home, digest=None):
    tune_trainable(config, shards, home, "val_recall@1", digest or load_manifest(shards)["digest"])


def test_tune_is_told_the_best_so_far(params, tiny_shards, tmp_path, reports):
    tell({"number": 7, "params": params}, tiny_shards, tmp_path)
    values = [each["value"] for each in reports]
    assert [each["epoch"] for each in reports] == [1, 2, 3]
    assert [each["objective"] for each in reports] == [max(values[: i + 1]) for i in range(3)]
    assert reports[-1]["row"]["val_recall@1"] == values[-1]
    assert (home_of(tmp_path, 7) / "checkpoints").is_dir()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"train": {"classes": 100}}, "train.classes is 100"),
        ({"train": {"warmup": 1000}}, "train.warmup is 1000 steps"),
        ({"method": {"loss": None}}, "method.loss is None; it must be a group"),
    ],
)
def test_an_error_is_told_and_not_raised(change, said, params, tiny_shards, tmp_path, reports):
    tell({"number": 0, "params": changed(params, **change)}, tiny_shards, tmp_path)
    assert len(reports) == 1
    assert said in reports[0]["refusal"]
    assert not reports[0]["halts"]
    assert "Traceback" in (home_of(tmp_path, 0) / "failure.txt").read_text()


def test_a_full_disk_is_no_fault_of_the_setting(
    params, tiny_shards, tmp_path, reports, monkeypatch
):
    def full(*_):
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as error:
            raise UserError("Checkpoints cannot be written to x.") from error

    monkeypatch.setattr("rhs.tuning.trial.run_trial", full)
    tell({"number": 0, "params": params}, tiny_shards, tmp_path)
    assert reports == [{"refusal": "Checkpoints cannot be written to x.", "halts": True}]


def test_shards_that_were_made_anew_are_not_trained_on(params, tiny_shards, tmp_path, reports):
    tell({"number": 0, "params": params}, tiny_shards, tmp_path, digest="of others")
    assert "was made anew, with other images" in reports[0]["refusal"]
    assert len(reports) == 1


def test_a_setting_that_could_not_be_composed(params, tiny_shards, tmp_path, reports):
    config = {"number": 0, "params": params, "refusal": "no such thing"}
    tell(config, tiny_shards, tmp_path)
    assert reports == [{"refusal": "no such thing", "halts": False}]


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({"train.epochs": {"low": 1.5, "high": 3}}, r"train.epochs holds 1.5: train.epochs is 1.5"),
        ({"train.lr": {"low": -1, "high": 0.1}}, r"train.lr holds -1: train.lr is -1"),
        ({"train.classes": {"low": 3, "high": 99, "int": True}}, "holds 99: train.classes is 99"),
    ],
)
def test_a_range_with_an_end_that_cannot_be_trained_with(space, said, project, tiny_shards):
    with pytest.raises(UserError, match=said):
        check_range_ends(read_space(space), [*SMALL], tiny_shards)


def test_ends_that_need_more_are_left_to_the_trials(project, tiny_shards):
    space = {
        "method": {"choice": ["npair", "triplet"]},
        "method.loss.margin": {"low": -1, "high": 1, "when": {"method": "triplet"}},
        "train.classes": {"choice": [3, 100]},
        "train.lr": {"low": 1e-4, "high": 1e-2},
    }
    check_range_ends(read_space(space), [*SMALL, "method=npair"], tiny_shards)


def test_a_mistake_is_raised_to_who_calls_it(params, tiny_shards, tmp_path):
    params = changed(params, train={"epochs": 0})
    with pytest.raises(UserError, match=r"train\.epochs is 0"):
        run_trial(params, tiny_shards, tmp_path / "trial", print)
    assert not (tmp_path / "trial").exists()
