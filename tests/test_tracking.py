"""What reaches MLflow, read back from its database."""

import os
import pickle
import shutil
import time
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from omegaconf import OmegaConf
from tiny import composed

from rhs.errors import UserError
from rhs.provenance import flatten, shorten
from rhs.run import Run
from rhs.tracking import QUIET, NullTracker, shown, tracked, tracking_uri

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload``")  # within MLflow
MANIFEST = {"dataset": "glyphs", "digest": "0123456789abcdef" * 4}


@pytest.fixture(scope="module")
def params():
    return composed("method=npair", "train.epochs=3")


@pytest.fixture(scope="module")
def migrated(tmp_path_factory):
    """An empty database: making its tables takes seconds, copying it nothing."""
    file = tmp_path_factory.mktemp("mlflow") / "empty.db"
    MlflowClient(f"sqlite:///{file}").search_experiments()
    return file


@pytest.fixture
def run(tmp_path, migrated, monkeypatch):
    """A run in a project folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(migrated, tmp_path / "mlflow.db")
    return Run("glyphs-npair-convnet-12345678", tmp_path / "runs" / "glyphs-npair")


def read_back(tracker):
    return MlflowClient(tracker.uri).get_run(tracker.run_id)


def test_a_run_says_what_it_is_a_function_of(params, run):
    with tracked(params, run, MANIFEST) as tracker:
        pass
    kept = read_back(tracker)
    assert kept.info.run_name == "npair-convnet-12345678"  # the experiment is called glyphs
    assert kept.info.status == "FINISHED"
    assert kept.data.params == {
        name: str(value) for name, value in flatten(OmegaConf.to_container(params)).items()
    }
    assert kept.data.params["method.loss._target_"] == "rhs.methods.losses.npair.NPair"
    assert kept.data.tags["data.digest"] == MANIFEST["digest"]
    assert len(kept.data.tags["git.commit"].removesuffix("-dirty")) == 40
    assert "dvc.shards" not in kept.data.tags  # DVC did not start this
    (dataset,) = kept.inputs.dataset_inputs
    assert dataset.dataset.name == "glyphs"
    assert MANIFEST["digest"].startswith(dataset.dataset.digest)
    client = MlflowClient(tracker.uri)
    assert client.get_experiment(kept.info.experiment_id).name == "glyphs"
    assert [a.path for a in client.list_artifacts(tracker.run_id)] == ["params.yaml"]
    assert Path("mlartifacts").is_dir()


def test_what_dvc_calls_the_data_and_the_experiment(params, run, monkeypatch):
    out = {"path": "data/shards/glyphs", "md5": "abc.dir"}
    lock = {"stages": {"fetch": {"cmd": "x"}, "preprocess": {"outs": [out]}}}
    OmegaConf.save(lock, "dvc.lock")
    monkeypatch.setenv("DVC_STAGE", "train")
    monkeypatch.setenv("DVC_EXP_NAME", "loose-pick")
    with tracked(params, run, MANIFEST) as tracker:
        pass
    tags = read_back(tracker).data.tags
    assert (tags["dvc.shards"], tags["dvc.experiment"]) == ("abc.dir", "loose-pick")


def test_numbers_by_group_and_step(params, run):
    with tracked(params, run, MANIFEST) as tracker:
        for epoch in (1, 2):
            row = {"epoch": epoch, "step": 10 * epoch, "loss": 1 / epoch, "val_recall@1": 0.5}
            tracker.metrics(row, row["step"])
        tracker.metrics({"recall@1": 0.75}, step=0, group="test")
    # "epoch" and "step" are axes. The last score does not mix with the curve of the same split.
    assert read_back(tracker).data.metrics == {
        "train/loss": 0.5,
        "train/val_recall_at_1": 0.5,
        "test/recall_at_1": 0.75,
    }
    history = MlflowClient(tracker.uri).get_metric_history(tracker.run_id, "train/loss")
    assert [(point.step, point.value) for point in history] == [(10, 1.0), (20, 0.5)]


@pytest.mark.parametrize(("steps", "points"), [(3, 3), (200, 200), (450, 150)])
def test_every_step_of_an_epoch_or_evenly_spaced_ones(params, run, steps, points):
    rows = [{"step": 7 + i, "loss": float(i), "effective_rank": 2.0 * i} for i in range(steps)]
    with tracked(params, run, MANIFEST) as tracker:
        tracker.steps(rows)
        tracker.steps([])
    client = MlflowClient(tracker.uri)
    history = client.get_metric_history(tracker.run_id, "step/effective_rank")
    every = -(-steps // 200)
    assert len(history) == points
    assert [(p.step, p.value) for p in history] == [
        (7 + i, 2.0 * i) for i in range(0, steps, every)
    ]


def test_a_failed_run_says_so_and_is_the_same_one_when_it_continues(params, run):
    with pytest.raises(ValueError, match="step"), tracked(params, run, MANIFEST) as tracker:
        int("step")
    assert read_back(tracker).info.status == "FAILED"
    with tracked(params, run, MANIFEST) as again:
        assert again == tracker
        assert read_back(again).info.status == "RUNNING"
    assert read_back(again).info.status == "FINISHED"


def test_system_use_is_sampled_where_asked_for(params, run, monkeypatch):
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")
    with tracked(params, run, MANIFEST, system=True) as tracker:
        time.sleep(1)
    assert "system/cpu_utilization_percentage" in read_back(tracker).data.metrics


def test_a_run_deleted_in_mlflow_is_started_anew(params, run, capsys):
    with tracked(params, run, MANIFEST) as first:
        pass
    MlflowClient(first.uri).delete_run(first.run_id)
    with tracked(params, run, MANIFEST) as second:
        assert second.run_id != first.run_id
    assert f"MLflow run {first.run_id} is not in experiment" in capsys.readouterr().err


def test_lists_of_class_names_fit(run):
    names = [f"class {i}" for i in range(2000)]
    params = composed("dataset=folder")
    params.dataset.train_classes = names
    with tracked(params, run, MANIFEST) as tracker:
        pass
    kept = read_back(tracker).data.params["dataset.train_classes"]
    assert kept.startswith("['class 0', 'class 1'")
    assert kept.endswith(f"… ({len(str(names)):,} characters, whole in the artifact params.yaml)")
    whole = mlflow.artifacts.load_text(f"runs:/{tracker.run_id}/params.yaml")
    assert OmegaConf.create(whole).dataset.train_classes == names


def test_shorten_leaves_short_ones_alone():
    assert shorten([1, 2, 4]) == "[1, 2, 4]"
    assert len(shorten("x" * 500)) == len(shorten("x" * 501)) == len(shorten("x" * 99_999)) == 500


def test_another_database(params, run, migrated, tmp_path, monkeypatch):
    shutil.copy(migrated, tmp_path / "other.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///other.db")
    with tracked(params, run, MANIFEST) as tracker:
        pass
    # Absolute: the worker that gets it runs in another folder.
    assert pickle.loads(pickle.dumps(tracker)).uri == f"sqlite:///{tmp_path}/other.db"
    assert read_back(tracker).info.status == "FINISHED"
    assert MlflowClient("sqlite:///mlflow.db").get_experiment_by_name("glyphs") is None


def test_addresses(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking:5000")
    assert tracking_uri() == "http://tracking:5000"
    assert shown("https://me:secret@tracking:5000/x") == "https://tracking:5000/x"


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("http://me:secret@127.0.0.1:9", "Connection refused"),
        ("/tmp/mlruns", "maintenance mode"),
        ("ftp://somewhere", "unsupported URI"),
    ],
)
def test_no_such_server_is_one_sentence_within_seconds(params, run, monkeypatch, uri, why):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    before, start = dict(os.environ), time.monotonic()
    with pytest.raises(UserError, match=why) as told, tracked(params, run, MANIFEST):
        pass
    assert time.monotonic() - start < 10
    assert "\n" not in str(told.value)
    assert "tracking=none" in str(told.value)
    assert "secret" not in str(told.value)
    assert dict(os.environ) == before | QUIET
    assert not run.folder.exists()


def test_without_tracking_nothing_is_written(run, tmp_path):
    (tmp_path / "mlflow.db").unlink()
    with tracked(composed("tracking=none"), run, MANIFEST, system=True) as tracker:
        assert type(tracker) is NullTracker
        tracker.metrics({"loss": 1.0}, 1)
        tracker.artifacts(tmp_path, "report")
        assert tracker.register(tmp_path, "name", None, b"") is None
    assert list(tmp_path.iterdir()) == []
