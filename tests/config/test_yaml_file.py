"""What an editor can do to params.yaml: one sentence with the file, and the line or the key."""

import os
import re
from dataclasses import asdict

import pytest
from omegaconf import OmegaConf
from tiny_project import ROOT, composed

from rhs.config.compose import load_params
from rhs.config.yaml_file import read_yaml
from rhs.errors import UserError

THREE = "\n  - 0.5" * 3
GOOD = (ROOT / "conf/train/default.yaml").read_text()


@pytest.fixture
def params(tmp_path, monkeypatch):
    """params.yaml with the defaults, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "params.yaml"
    OmegaConf.save(OmegaConf.create(asdict(composed())), file)
    return file


def refused() -> str:
    with pytest.raises(UserError) as caught:
        load_params()
    said = str(caught.value)
    assert "\n" not in said
    assert said.startswith("params.yaml")
    return said


def edited(file, pattern: str, by: str) -> int:
    """Replaces the first match; returns the number of its line."""
    text = file.read_text()
    found = re.search(pattern, text, re.MULTILINE)
    assert found
    file.write_text(text[: found.start()] + by + text[found.end() :])
    return text[: found.start()].count("\n") + 1


@pytest.mark.parametrize(
    ("pattern", "by", "said"),
    [
        ("^  epochs: 8", "\tepochs: 8", "spaces, not with tabs"),
        ("^  epochs: 8", "  epochs: 8\n  epochs: 9", "duplicate key epochs"),
        ("^  epochs: 8", "   epochs: 8", ": "),
        ("^  epochs: 8", "  epochs: [8", ": "),
        ("^  epochs: 8", "  epochs: 'text", ": "),
        ("^  epochs: 8", "  epochs 8", ": "),
        ("^  epochs: 8", "<<<<<<< HEAD\n  epochs: 8", "left of a merge in git"),
        ("^  epochs: 8", "  epochs: !!python/object:os.system {}", "python/object"),
        ("^  epochs: 8", "  epochs: *nowhere", "undefined alias"),
        ("^  epochs: 8", "  epochs: 010", "010 means another number"),
        ("^  epochs: 8", "  epochs: 1_0", "1_0 means another number"),
        ("^  epochs: 8", "  epochs: 1:30", "1:30 means another number"),
        ("^train:", "---\ntrain:", "document"),
    ],
)
def test_a_fault_of_yaml_is_said_with_its_line(params, pattern, by, said):
    line = edited(params, pattern, by)
    told = refused()
    assert re.search(said, told)
    number = int(re.match(r"params\.yaml, line (\d+): ", told)[1])
    assert abs(number - line) <= 2


@pytest.mark.parametrize(
    ("pattern", "by", "said"),
    [
        ("^  epochs: 8\n", "", "train.epochs is missing: put it back, .*git checkout params.yaml"),
        ("^cluster:(\n  .*)*\n", "", "cluster is missing: "),
        ("^  epochs: 8", "  epochs: 8\n  batch_size: 64", "train.batch_size is unknown; "),
        (
            "^  epochs: 8",
            "  epoch: 8",
            "train.epoch is unknown; .*; the nearest known is train.epochs",
        ),
        ("^  epochs: 8", "  epochs: ${nowhere}", r"train.epochs is .*nowhere"),
        ("^  epochs: 8", "  epochs: ${train.epochs}", "circle|train.epochs"),
        ("^  epochs: 8", "  epochs: ${oops", "epochs|oops"),
        ("^  epochs: 8", "  epochs: ???", r"train.epochs is \?\?\?"),
        ("^  epochs: 8", "  epochs: 2026-01-01", "train.epochs is '2026-01-01'"),
        ("^  epochs: 8", "  epochs: 08", "train.epochs is '08'"),
        ("^  epochs: 8", "  epochs: .nan", "train.epochs is nan"),
        ("^  epochs: 8", "  epochs: " + "9" * 5000, "cannot be read"),
        ("^  epochs: 8", "  epochs: !!int eight", "cannot be read|line"),
        ("^  epochs: 8", "  epochs: " + "[" * 3000 + "]" * 3000, "nested too deeply"),
        ("^  epochs: 8", "  epochs: &loop [*loop]", "nested|circle|recursive"),
        ("^seed: 0", "seed: 0\n1: 2", "1 is unknown"),
        ("^seed: 0", "seed: 0\nno: 2", "False is unknown"),
        ("^seed: 0", "seed: 0\nnull: 2", "params.yaml"),
        ("^  train_classes: null", "  train_classes: [no, yes]", "write such a text in quotes"),
        ("^  name: convnet", "  name: on", "model.name is True"),
    ],
)
def test_a_fault_of_a_parameter_is_said_with_its_key(params, pattern, by, said):
    edited(params, pattern, by)
    assert re.search(said, refused())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"# nothing\n", "is empty"),
        (b"- a\n- b\n", "must be a mapping"),
        (b"text\n", "must be a mapping"),
        (b"3\n", "must be a mapping"),
        ("seed: 0\nname: año\n".encode("latin-1"), "not UTF-8 text (byte 16 is 0xf1)"),
        ("seed: 0\n".encode("utf-16"), "not UTF-8"),
        (b"seed: 0\0\n", "params.yaml"),
        (b"x" * (2**22 + 1), "4,194,305 bytes"),
    ],
)
def test_a_file_of_something_else(params, content, said):
    params.write_bytes(content)
    assert said in refused()


def test_a_folder_in_its_place(params):
    params.unlink()
    params.mkdir()
    assert "is a folder" in refused()


def test_a_pipe_in_its_place_is_not_waited_for(params):
    params.unlink()
    os.mkfifo(params)
    with pytest.raises(UserError, match=r"params\.yaml is no regular file"):
        load_params()


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read(params):
    params.chmod(0)
    assert "cannot be read: Permission denied" in refused()


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("lr: 0.001", "lr: 1e-3"),
        lambda text: text.replace("flip: false", "flip: no"),
        lambda text: text.replace("  mean:\n", "  mean: &half\n").replace(
            f"std:{THREE}", "std: *half"
        ),
        lambda text: "---\n" + text,
    ],
)
def test_what_means_the_same_is_read_the_same(params, change):
    before = load_params()
    changed = change(params.read_text(encoding="utf-8"))
    params.write_bytes(changed.encode("utf-8"))
    assert load_params() == before


def test_what_a_file_says_is_read(tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text(GOOD)
    assert read_yaml(file)["epochs"] == 8
