"""What reaches MLflow, read back from its database."""

from dataclasses import asdict, replace
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow_away import MANIFEST, begin, eventually
from omegaconf import OmegaConf
from tiny_project import changed, composed

from rhs.config.compose import flatten
from rhs.tracking.provenance import shorten
from rhs.tracking.tracker import NullTracker, tracked
from rhs.tracking.tracking_uri import tracking_uri

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload``")  # within MLflow


@pytest.fixture(scope="module")
def params():
    return composed("method=npair", "train.epochs=3")


@pytest.fixture
def run(tmp_path, tmp_path_factory, monkeypatch):
    """A run in a project folder of its own."""
    return begin(tmp_path, tmp_path_factory, monkeypatch)


def read_back(tracker):
    return MlflowClient(tracker.uri).get_run(tracker.run_id)


def test_a_run_says_what_it_is_a_function_of(params, run):
    with tracked(params, run, MANIFEST) as tracker:
        pass
    kept = read_back(tracker)
    assert kept.info.run_name == "npair-convnet-12345678"  # the experiment is called glyphs
    assert kept.info.status == "FINISHED"
    assert kept.data.params == {name: str(value) for name, value in flatten(asdict(params)).items()}
    assert kept.data.params["method.loss._target_"] == "rhs.methods.losses.npair.NPair"
    assert kept.data.tags["data.digest"] == MANIFEST["digest"]
    assert kept.data.tags["rhs.run"] == run.name
    assert kept.data.tags["mlflow.user"]
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


def test_the_numbers_of_every_step(params, run):
    with tracked(params, run, MANIFEST) as tracker:
        tracker.steps([{"step": 7 + i, "loss": float(i), "rank": 2.0 * i} for i in range(700)])
        tracker.steps([])
    history = MlflowClient(tracker.uri).get_metric_history(tracker.run_id, "step/rank")
    assert [(p.step, p.value) for p in history] == [(7 + i, 2.0 * i) for i in range(700)]


def test_a_failed_run_says_so_and_is_the_same_one_when_it_continues(params, run):
    with pytest.raises(ValueError, match="step"), tracked(params, run, MANIFEST) as tracker:
        int("step")
    assert read_back(tracker).info.status == "FAILED"
    with tracked(params, run, MANIFEST) as again:
        assert again.run_id == tracker.run_id
        eventually(lambda: read_back(again).info.status == "RUNNING")
    assert read_back(again).info.status == "FINISHED"


def test_lists_of_class_names_fit(run):
    names = [f"class {i}" for i in range(2000)]
    params = changed(composed("dataset=folder"), dataset={"train_classes": names})
    with tracked(params, run, MANIFEST) as tracker:
        pass
    kept = read_back(tracker).data.params["dataset.train_classes"]
    assert kept.startswith("['class 0', 'class 1'")
    assert kept.endswith(f"… ({len(str(names)):,} characters, whole in the artifact params.yaml)")
    whole = mlflow.artifacts.download_artifacts(
        run_id=tracker.run_id, artifact_path="params.yaml", tracking_uri=tracker.uri
    )
    assert OmegaConf.load(whole).dataset.train_classes == names


def test_shorten_leaves_short_ones_alone():
    assert shorten([1, 2, 4]) == "[1, 2, 4]"
    assert len(shorten("x" * 500)) == len(shorten("x" * 501)) == len(shorten("x" * 99_999)) == 500


def test_addresses(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking:5000")
    assert tracking_uri() == "http://tracking:5000"


def test_no_secrets(run):
    mirror = {"mirror": "https://me:hunter2@mirror/x?token=hunter2"}
    params = changed(composed("dataset=folder"), fetch=mirror)
    trunk = params.model.trunk | {"access_token": "hunter2"}
    params = replace(params, model=replace(params.model, trunk=trunk))
    with tracked(params, run, MANIFEST) as tracker:
        pass
    kept = read_back(tracker)
    assert kept.data.params["fetch.mirror"] == "https://***@mirror/x?***"
    assert kept.data.params["model.trunk.access_token"] == "***"
    for file in [Path("mlflow.db"), *Path("mlartifacts").rglob("*"), *run.folder.rglob("*")]:
        assert file.is_dir() or b"hunter2" not in file.read_bytes(), file


def test_without_tracking_nothing_is_written(run, tmp_path):
    (tmp_path / "mlflow.db").unlink()
    with tracked(composed("tracking=none"), run, MANIFEST, system=True) as tracker:
        assert type(tracker) is NullTracker
        tracker.metrics({"loss": 1.0}, 1)
        tracker.artifacts(tmp_path, "report")
        assert tracker.register(tmp_path, lambda *_: "id") is None
    assert list(tmp_path.iterdir()) == []
