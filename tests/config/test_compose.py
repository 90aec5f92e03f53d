"""What an editor can do to the files of conf/: one sentence with the file, and the line or key."""

import shutil

import pytest
from tiny_project import ROOT

from rhs.config.compose import compose
from rhs.errors import UserError

TRAIN, MAIN = "train/default.yaml", "config.yaml"
EXPERIMENT = "# @package _global_\n"


@pytest.fixture
def conf(tmp_path, monkeypatch):
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "conf"


def refused(*overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        compose(list(overrides) or ["seed=0"])
    said = str(caught.value)
    assert "\n" not in said
    assert "Exception" not in said
    return said


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        (TRAIN, "epochs: 8", "\tepochs: 8", "conf/train/default.yaml, line 3: "),
        (TRAIN, "epochs: 8", "epochs: 010", "conf/train/default.yaml, line 3: 010 means another"),
        (TRAIN, "epochs: 8", "epoch: 8", "conf/train/default.yaml: train.epoch is unknown; "),
        (TRAIN, "epochs: 8", "", "sets train.epochs: put it back into conf/train/default.yaml"),
        (TRAIN, "epochs: 8", "epochs: no", "conf/train/default.yaml: train.epochs is False; "),
        (TRAIN, "epochs: 8", "epochs: ${x}", "train.epochs is '${x}': "),
        (TRAIN, "epochs: 8", "epochs: ${x", "conf/train/default.yaml: "),
        (TRAIN, "epochs: 8", "epochs: &loop [*loop]", "conf/train/default.yaml: "),
        (TRAIN, "epochs: 8", "epochs: 8\nnull: 1", "conf/train/default.yaml: "),
        (MAIN, "  - method: rhs_npair\n", "", "sets method: put it back into conf/config.yaml"),
        (MAIN, "method: rhs_npair", "method: rhs_npairs", "; the nearest known is rhs_npair"),
        (MAIN, "method: rhs_npair", "methods: rhs_npair", "methods/rhs_npair"),
        (MAIN, "defaults:", "default:", "conf/config.yaml: default is unknown; "),
    ],
)
def test_a_damaged_file_is_named(conf, file, old, new, said):
    text = (conf / file).read_text()
    assert old in text
    (conf / file).write_text(text.replace(old, new, 1))
    assert said in refused()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("train:\n  epochs: 3\n", "conf/experiment/a.yaml must begin with"),
        (EXPERIMENT + "train:\n  epochs: x\n", "conf/experiment/a.yaml: train.epochs is 'x'"),
        (EXPERIMENT + "defaults:\n  - override /model: convnets\n", "nearest known is convnet"),
        (EXPERIMENT + "defaults:\n  - a\n", "circle"),
    ],
)
def test_a_damaged_experiment_is_named(conf, content, said):
    (conf / "experiment/a.yaml").write_text(content)
    assert said in refused("experiment=a")


def test_files_that_are_not_there(conf):
    (conf / TRAIN).unlink()
    assert "train=default is unknown; accepted: finetune, head." in refused()
    shutil.rmtree(conf / "train")
    assert "train/default" in refused()
    (conf / MAIN).unlink()
    assert "config" in refused()


@pytest.mark.parametrize(
    "override",
    ["seed", "=", "+epochs=3", "train.epoch=3", "-S", "train.lr=1e999", "seed=" + "9" * 5000],
)
def test_an_override_that_cannot_be(override, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert len(refused(override)) < 500
