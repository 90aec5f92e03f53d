"""What was chosen stays, or it is said that it does not, with the command that keeps it."""

import json
import re
import shlex
from dataclasses import asdict
from pathlib import Path

import pytest
from folders import make_images
from tiny_project import ROOT, composed

from pipelines.inputs import main
from rhs.config.changed_choices import chosen, notice, overrides_for

PHOTOS = ("experiment=photos", "dataset.source=photos.tar")


@pytest.fixture(autouse=True)
def _in_project(project, monkeypatch):
    monkeypatch.delenv("RHS_PARAMS_BEFORE", raising=False)


def params(*overrides: str) -> dict:
    return asdict(composed(*overrides))


def kept_by(lines: list[str]) -> dict:
    """What the command of the last line composes to."""
    words = shlex.split(lines[-1].partition(": ")[2])
    assert words[:3] == ["dvc", "exp", "run"]
    assert set(words[3::2]) <= {"-S"}
    return params(*words[4::2])


def test_the_next_command_goes_back_to_another_data_set():
    photos, now = params(*PHOTOS), params("train.epochs=20")
    lines = notice(now, ran=photos, edited=photos, given=["train.epochs=20"])
    assert lines == [
        "the data set changes: this run is on glyphs, the last was on folder (photos.tar)",
        "no longer in params.yaml, composed anew: model efficientnet_lite0 -> convnet, "
        "train finetune -> default",
        "to keep that: dvc exp run -S experiment=photos -S dataset.source=photos.tar "
        "-S train.epochs=20",
    ]
    assert kept_by(lines) == params(*PHOTOS, "train.epochs=20")


def test_edits_by_hand_that_never_ran():
    edited = params("model.dim=64", "dataset.validation=0.2", "seed=3", "method=schem")
    lines = notice(params("train.lr=0.1"), ran=params(), edited=edited, given=["train.lr=0.1"])
    assert len(lines) == 2
    for text in (
        "model.dim 64 -> 128",
        "dataset.validation 0.2 -> 0.1",
        "seed 3 -> 0",
        "method schem -> rhs_npair",
    ):
        assert text in lines[0]
    assert kept_by(lines) == edited | {"train": params("train.lr=0.1")["train"]}


def test_what_is_asked_for_is_no_loss():
    ran = params("train.epochs=20", "method=npair")
    for given in (["train.epochs=8", "method=rhs_npair"], ["train=default", "method=rhs_npair"]):
        assert notice(params(*given), ran, ran, given) == []
    same = params(*PHOTOS)
    assert notice(same, same, same, PHOTOS) == []
    assert notice(params(), None, None) == []
    assert notice(params(*PHOTOS), None, params(), PHOTOS) == []


def test_another_data_set_is_said_even_if_it_is_asked_for_or_edited():
    ran = params(*PHOTOS)
    lines = notice(params("experiment=photos", "dataset.source=others"), ran, None)
    assert "this run is on folder (others), the last was on folder (photos.tar)" in lines[0]
    assert kept_by(lines) == ran


@pytest.mark.parametrize(
    "overrides",
    [
        PHOTOS,
        ("model=timm", "model.name=resnet50", "cluster=one_gpu", "tracking=none"),
        ("experiment=cub200_resnet50", "seed=2"),
        ("dataset=folder", "dataset.source='photos (1), it\\'s año#a=b.tar'"),
        ("dataset=folder", "dataset.source='2024'", "dataset.train_classes=[null-a,'true','a b']"),
        ("dataset=table", "dataset.source='null'", "dataset.fetch.values=[angle]"),
        ("method.centers.momentum=1e-5", "dataset.augment.jitter={hue: 0.1}"),
    ],
)
def test_a_command_composes_to_exactly_these_parameters(overrides):
    wanted = params(*overrides)
    found = overrides_for(wanted)
    assert params(*found) == wanted
    assert len(found) <= len(overrides) + 1


def test_parameters_that_no_command_makes_are_listed_all_the_same():
    edited = params() | {"model": "convnet", "seed": 9}
    del edited["train"]
    lines = notice(params(), None, edited)
    assert "seed 9 -> 0" in lines[0]
    assert lines[-1].startswith("to keep that")
    assert chosen(params()) == {}


def test_the_stage_says_it_once_and_writes_what_it_saw(monkeypatch, capsys):
    make_images(Path("photos"), [2] * 4)
    choice = ["dataset=folder", "dataset.source=photos"]
    main(composed(*choice))
    assert capsys.readouterr().out == "inputs: photos: 8 files\n"
    out = Path("data/inputs/folder")
    written = {file.name: file.stat().st_mtime_ns for file in out.iterdir()}
    assert set(written) == {"source.json", "classes.json"}
    main(composed(*choice))
    assert capsys.readouterr().out == "inputs: photos: 8 files\n"
    assert {file.name: file.stat().st_mtime_ns for file in out.iterdir()} == written
    Path("photos/class0/0.png").write_bytes(b"x")
    main(composed(*choice))
    assert capsys.readouterr().out == "inputs: photos: 8 files, changed\n"
    assert json.loads((out / "source.json").read_text())["source"]["files"] == 8
    (Path("rhs")).symlink_to(ROOT / "rhs")
    main(composed())
    assert "inputs: the data set changes: this run is on glyphs" in capsys.readouterr().out
    main(composed())
    assert capsys.readouterr().out == "inputs: rhs/datasets/glyphs.py: 1 file\n"


def test_a_copy_of_the_queue_is_not_the_last_run(project, monkeypatch, capsys):
    make_images(Path("photos"), [2] * 4)
    (Path("rhs")).symlink_to(ROOT / "rhs")
    main(composed())
    copy = project / ".dvc/tmp/exps/tmp1"
    copy.mkdir(parents=True)
    (copy / "conf").symlink_to(ROOT / "conf")
    monkeypatch.chdir(copy)
    capsys.readouterr()
    main(composed("dataset=folder", "dataset.source=photos"))
    said = capsys.readouterr().out
    assert re.search("this run is on folder .photos., the last was on glyphs", said)
    assert "inputs: photos: 8 files" in said
    assert (copy / "data/inputs/folder/source.json").exists()
    assert (
        json.loads((project / "data/inputs/.last.json").read_text())["dataset"]["name"] == "glyphs"
    )
