"""Each mistake a person can make: one sentence that names it, status 1, nothing half-written."""

import io
import json
import subprocess
import sys
import tarfile
from importlib import import_module
from pathlib import Path

import pytest
from folders import make_images
from tiny_project import ROOT, small_model_config, write_shards

from rhs.data.batch_sampler import BalancedBatchSampler
from rhs.data.shards import ShardedImages, load_manifest
from rhs.datasets import folder
from rhs.models.embedder import build_embedder, save_embedder
from rhs.stage import stage

# The source ------------------------------------------------------------------------------------


def test_source_missing(refused, tmp_path):
    said = refused("fetch", f"dataset.source={tmp_path / 'nowhere'}")
    assert f"{tmp_path / 'nowhere'} does not exist" in said
    assert ".zip" in said


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_source_empty(refused, tmp_path, kind):
    source = tmp_path / "source"
    source.mkdir() if kind == "folder" else source.write_bytes(b"")
    words = {"folder": "is empty", "file": "is an empty file"}[kind]
    assert f"{source} {words}; accepted:" in refused("fetch", f"dataset.source={source}")


def test_source_is_not_an_archive(refused, tmp_path):
    (tmp_path / "notes.txt").write_text("these are not images " * 100)
    assert "notes.txt is not an archive" in refused("fetch", f"dataset.source={tmp_path}/notes.txt")


def test_source_is_a_damaged_archive(refused, tmp_path):
    with tarfile.open(tmp_path / "images.tar.gz", "w:gz") as tar:
        tar.add(make_images(tmp_path / "images", [3] * 5), "images")
    whole = (tmp_path / "images.tar.gz").read_bytes()
    (tmp_path / "images.tar.gz").write_bytes(whole[: len(whole) // 2])
    assert "is damaged" in refused("fetch", f"dataset.source={tmp_path}/images.tar.gz")


def test_archive_that_writes_outside(refused, tmp_path):
    with tarfile.open(tmp_path / "evil.tar", "w") as tar:
        tar.add(make_images(tmp_path / "images", [3] * 5), "images")
        member = tarfile.TarInfo("../../escaped.png")
        member.size = 4
        tar.addfile(member, io.BytesIO(b"evil"))
    said = refused("fetch", f"dataset.source={tmp_path}/evil.tar")
    assert "points outside its folder, '../../escaped.png'" in said
    assert not list(tmp_path.rglob("escaped.png"))


def test_fewer_than_four_classes(refused, tmp_path):
    source = make_images(tmp_path / "images", [5, 5, 5])
    said = refused("fetch", f"dataset.source={source}")
    assert "found 3 (class0, class1, class2), at least 4 are needed" in said


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("dataset.source=2024", "dataset.source 2024 does not exist"),
        ("dataset.source=null", "dataset.source is None; it must be the path"),
        ("dataset.fetch=null", "dataset.fetch is None; it must be a group of settings"),
        ("~dataset.fetch._target_", "dataset.fetch has no _target_"),
        ("fetch.folder=null", "fetch.folder is None; it must be the path"),
        ("+fetch.foo=1", "fetch.foo is unknown; accepted: folder, mirror, retries, timeout;"),
        ('dataset.name=""', "dataset.name is ''; it must be text of letters"),
        ("dataset.name=../../x", "dataset.name is '../../x'; it must be text of letters"),
        ("dataset.name=null", "dataset.name is None; it must be text of letters"),
    ],
)
def test_settings_of_fetch(refused, override, sentence):
    assert sentence in refused("fetch", override)


def test_a_source_of_digits_and_a_folder_too(stage_of, project):
    make_images(project / "2024", [3] * 4)
    stage_of("fetch", "dataset.source=2024", "fetch.folder=5")
    assert json.loads(Path("data/raw/folder/source.json").read_text())["source"] == "2024"


# Images and classes ----------------------------------------------------------------------------


def fetched(project, tmp_path, sizes, **instead) -> None:
    folder.fetch(Path("data/raw/folder"), str(make_images(tmp_path / "in", sizes, **instead)))


def test_too_many_corrupt_images(ray_cluster, refused, stage_of, project, tmp_path):
    bad = {f"class{label}": b"no image" for label in (0, 4, 7)}
    fetched(project, tmp_path, [5] * 8, **bad)
    said = refused("preprocess")
    assert "3 of 40 images were refused (7.5%), first class0/0.png (not an image)" in said
    assert "preprocess.max_bad_fraction" in said
    stage_of("preprocess", "preprocess.max_bad_fraction=0.1")
    assert load_manifest(Path("data/shards/folder"))["refused_by_reason"] == {"not an image": 3}


def test_a_class_with_one_image(ray_cluster, stage_of, project, tmp_path):
    fetched(project, tmp_path, [5, 1, 5, 5, 5, 1])
    stage_of("preprocess", "dataset.validation=0")
    shards = Path("data/shards/folder")
    assert load_manifest(shards)["singletons"] == ["class1", "class5"]
    train = ShardedImages(shards, "train")
    assert train.labels.tolist() == [0] * 5 + [1] + [2] * 5
    plan = BalancedBatchSampler(train.labels, classes=2, per_class=2, seed=0)
    drawn = {
        int(row) for e in range(3) for s in range(plan.steps) for row in plan.batch(e, s).index
    }
    assert drawn == set(range(11)) - {5}


def test_chosen_classes_of_one_image_each(ray_cluster, refused, project, tmp_path):
    fetched(project, tmp_path, [5, 1, 5, 1, 5, 5, 5, 5])
    said = refused("preprocess", "dataset.test_classes=[class1,class3]")
    assert "each of the 2 test classes has one image" in said
    assert "two images are needed in one of them at least" in said


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("dataset.name=..", "dataset.name is '..'; it must be text of letters"),
        ("dataset.validation=null", "dataset.validation is None; accepted: 0 (none) to below 1"),
        ("preprocess.short_side=12.5", "short_side is 12.5; it must be a whole number at least 2"),
        ("+preprocess.foo=1", "preprocess.foo is unknown; accepted: short_side, quality,"),
        ("+preprocess.train_classes=[a]", "preprocess.train_classes is unknown; accepted: short"),
    ],
)
def test_settings_of_preprocess(refused, override, sentence):
    assert sentence in refused("preprocess", override)


# Parameters ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["train.classes=64"], ["train.classes is 64", "between 2 and 4"]),
        (["train.classes=3", "cluster.num_workers=4"], ["num_workers = 4", "3 workers would fit"]),
        (["train.classes=4", "train.per_class=1"], ["train.per_class is 1", "2 images or more"]),
        (["train.classes=4", "train.precision=int8"], ["'int8'", "float32, bfloat16"]),
        (["train.classes=4", "model.trunk.widths=[9]"], ["widths is [9]", "multiples of 8"]),
    ],
)
def test_training_that_cannot_work(refused, project, overrides, named):
    write_shards(Path("data/shards/folder"), train=[4] * 4, test=[4] * 3)
    said = refused("train", *overrides)
    for words in named:
        assert words in said


def test_unknown_model_of_timm(project, monkeypatch, capsys):
    write_shards(Path("data/shards/folder"), train=[4] * 4, test=[4] * 3)
    choices = ["dataset=folder", "tracking=none", "train.classes=4", "model=timm"]
    monkeypatch.setattr(sys, "argv", ["train", *choices, "model.name=resnet5"])
    with pytest.raises(SystemExit):
        stage(import_module("pipelines.train").main)
    said = capsys.readouterr().err
    assert said.startswith("error: timm has no model 'resnet5'; near names are resnet50")
    assert said.count("\n") == 1


def test_an_impossible_tracking_server(refused, project, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "ftp://somewhere")
    write_shards(Path("data/shards/folder"), train=[4] * 4, test=[4] * 3)
    said = refused("train", "train.classes=4", "tracking=mlflow")
    assert "ftp://somewhere cannot be used" in said
    assert "unsupported URI" in said


# Order -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("preprocess", "fetch"),
        ("train", "preprocess"),
        ("evaluate", "preprocess"),
        ("report", "preprocess"),
    ],
)
def test_a_stage_before_its_input_exists(refused, name, first):
    assert f"run the {first} stage first" in refused(name)


def test_evaluate_and_report_before_train(refused, project):
    write_shards(Path("data/shards/folder"), train=[4] * 4, test=[4] * 3)
    assert "models/folder not found: run the train stage first" in refused("evaluate")
    assert "models/folder not found: run the train stage first" in refused("report")


def save_model(out: Path) -> None:
    out.mkdir(parents=True)
    config = small_model_config() | {"run": "folder-x"}
    save_embedder(out, build_embedder(config), config)
    (out / "history.csv").write_text("epoch,step,loss\n1,3,0.5\n")


def test_report_before_evaluate(refused, project):
    write_shards(Path("data/shards/folder"), train=[4] * 4, test=[4] * 3)
    save_model(Path("models/folder"))
    assert "embeddings/folder not found: run the evaluate stage first" in refused("report")


def test_no_validation_classes_is_no_mistake(ray_cluster, stage_of, project, tmp_path):
    fetched(project, tmp_path, [4] * 6)
    stage_of("preprocess", "dataset.validation=0")
    save_model(Path("models/folder"))
    stage_of("evaluate")
    assert set(json.loads(Path("metrics.json").read_text())) == {"test", "untrained"}
    stage_of("report")
    assert Path("report/index.html").exists()


def test_through_a_process_of_its_own(project, tmp_path):
    command = [sys.executable, "-m", "pipelines.fetch", "dataset=folder", "dataset.source=nowhere"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: dataset.source nowhere does not exist; accepted: ")
    assert done.stderr.count("\n") == 1
