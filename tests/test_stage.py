"""What a stage says: one sentence and status 1, or a traceback where it is our fault."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from tiny_project import ROOT, composed

from rhs.config.compose import compose, load_params
from rhs.errors import Interrupted, UserError
from rhs.explain import explain
from rhs.stage import enter_storage, stage
from rhs.storage.object_store import ObjectStore


@pytest.fixture
def in_project(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["stage"])


def failing(error: BaseException):
    def main(params):
        raise error

    return main


def said_by(capsys, error: BaseException) -> str:
    with pytest.raises(SystemExit) as left:
        stage(failing(error))
    assert left.value.code == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    assert captured.err.count("\n") == 1
    return captured.err


def test_a_users_mistake_is_one_sentence(in_project, capsys):
    said = said_by(capsys, UserError("train.lr is 0; a rate above 0 is needed."))
    assert said == "error: train.lr is 0; a rate above 0 is needed.\n"


def test_a_full_disk_is_one_sentence(in_project, capsys):
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/somewhere/train.parquet")
    assert "No space left on the disk that holds /somewhere/train.parquet" in said_by(capsys, full)
    nameless = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert f"holds {ROOT}" in said_by(capsys, nameless)


def test_everything_else_keeps_its_traceback(in_project):
    for error in (RuntimeError("bug"), ValueError("bug"), OSError(errno.EACCES, "no")):
        with pytest.raises(type(error)):
            stage(failing(error))


def test_a_stage_that_goes_well_says_nothing(in_project, capsys):
    seen = []
    stage(seen.append)
    assert seen[0].dataset.name == OmegaConf.load(ROOT / "params.yaml").dataset.name
    assert capsys.readouterr() == ("", "")


def chained(inner: BaseException) -> BaseException:
    try:
        try:
            raise inner
        except BaseException as error:
            raise RuntimeError("wrapped") from error
    except RuntimeError as error:
        return error


def test_the_sentence_is_found_behind_what_ray_raises():
    ray_exceptions = pytest.importorskip("ray.exceptions")
    train_exceptions = pytest.importorskip("ray.train.v2.api.exceptions")
    mistake = UserError("mend this")
    full = OSError(errno.ENOSPC, "full", "here")
    task = ray_exceptions.RayTaskError("f", "traceback", mistake)
    for error in (
        mistake,
        chained(mistake),
        chained(chained(mistake)),
        task,
        chained(task),
        train_exceptions.WorkerGroupError("failed", {0: RuntimeError("other"), 1: mistake}),
        chained(train_exceptions.WorkerGroupError("failed", {1: chained(mistake)})),
    ):
        assert explain(error) == "mend this"
    assert "holds here" in explain(train_exceptions.WorkerGroupError("failed", {1: full}))
    assert explain(train_exceptions.WorkerGroupError("failed", {0: RuntimeError("bug")})) is None
    assert explain(chained(RuntimeError("bug"))) is None


@pytest.mark.parametrize(
    ("override", "listed"),
    [
        ("method=nope", ["nope", "npair", "rhs_npair", "symm_npair"]),
        ("model=nope", ["nope", "convnet", "efficientnet_lite0", "timm"]),
        ("dataset=nope", ["nope", "folder", "glyphs"]),
        ("train=nope", ["nope", "default", "finetune"]),
        ("cluster=nope", ["nope", "laptop", "one_gpu", "multi_node"]),
    ],
)
def test_an_unknown_choice_lists_the_valid_ones(override, listed):
    with pytest.raises(UserError) as caught:
        composed(override)
    assert "\n" not in str(caught.value)
    for name in listed:
        assert name in str(caught.value)


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("train.epoch=3", "epoch"),
        ("nope=3", "nope"),
        ("train.lr=", "train.lr"),
        ("=", "="),
        ("train.lr=[1", "train.lr=[1"),
        ("dataset.source=${nowhere.at.all}", "nowhere"),
    ],
)
def test_an_override_that_means_nothing(override, named):
    with pytest.raises(UserError) as caught:
        composed(override)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_overrides_are_composed_and_resolved():
    params = composed("model=timm", "model.name=resnet50", "seed=4")
    assert params.model.trunk["name"] == "resnet50"
    assert params.seed == 4
    assert "${" not in str(params)


def test_outside_of_the_project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"params\.yaml not found in .*project's root"):
        load_params([])
    with pytest.raises(UserError, match="conf"):
        compose(["seed=1"])


def test_storage_that_is_a_folder(in_project, tmp_path):
    for storage in (None, str(tmp_path), tmp_path.as_uri()):
        os.chdir(ROOT)
        enter_storage(storage)
        assert Path.cwd() == (ROOT if storage is None else tmp_path)


def test_storage_behind_a_url(in_project, monkeypatch, capsys):
    enter_storage("memory://bucket/rhs")
    assert Path.cwd() == ROOT
    for url, why in (
        ("s3://someone:word@bucket", "keys belong into the environment"),
        ("sftp://host/folder", "accepted: a folder, or s3://bucket/path"),
    ):
        monkeypatch.setattr(sys, "argv", ["stage", f"cluster.storage='{url}'"])
        with pytest.raises(SystemExit):
            stage(pytest.fail)
        said = capsys.readouterr().err
        assert why in said
        assert said.count("\n") == 1
        assert "word" not in said


def test_storage_that_cannot_be_used(in_project, monkeypatch):
    def away(*_):
        raise OSError("the store is away")

    monkeypatch.setattr(ObjectStore, "write", away)
    with pytest.raises(UserError, match=r"memory://bucket cannot be used \(the store is away\): "):
        enter_storage("memory://bucket")


def test_storage_that_is_not_there(in_project, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["stage", "cluster.storage=/no/such/folder"])
    with pytest.raises(SystemExit):
        stage(pytest.fail)
    assert "cluster.storage is '/no/such/folder'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["method=nope"], "npair"),
        (["dataset=folder", "dataset.name=never-preprocessed"], "run the preprocess stage first"),
    ],
)
def test_the_real_thing(arguments, sentence, tmp_path):
    (tmp_path / "conf").symlink_to(ROOT / "conf")
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.train", *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert sentence in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["conf"]


@pytest.mark.parametrize(
    ("ending", "status", "said"),
    [
        (Interrupted(15, "stopped after step 3"), 143, "stopped after step 3\n"),
        (KeyboardInterrupt(), 130, "interrupted; the same command starts again\n"),
        (SystemExit(15), 143, "interrupted; the same command starts again\n"),  # Ray's answer
        (SystemExit(3), 3, ""),
    ],
)
def test_signals_end_a_stage_in_a_line(project, monkeypatch, capsys, ending, status, said):
    def main(params):
        raise ending

    monkeypatch.setattr(sys, "argv", ["stage", "tracking=none"])
    with pytest.raises(SystemExit) as left:
        stage(main)
    assert left.value.code == status
    assert capsys.readouterr().err == said


def test_a_storage_that_is_no_text(project):
    with pytest.raises(UserError, match=r"cluster\.storage is 5; it must be a folder"):
        enter_storage(5)


def test_a_reader_who_leaves_early_is_no_traceback(project):
    reading, writing = os.pipe()
    os.close(reading)
    program = "import rhs.stage; rhs.stage.stage(lambda params: print('a line', flush=True))"
    done = subprocess.run(
        [sys.executable, "-c", program, "tracking=none"],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
        timeout=60,
    )
    os.close(writing)
    said = "error: nobody reads what this prints any more; the same command starts again.\n"
    assert (done.returncode, done.stderr) == (141, said)
