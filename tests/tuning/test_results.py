"""What a search leaves: the experiment file, tables and pictures."""

import csv
import json
from dataclasses import asdict

import pandas as pd
import pytest
from fake_searches import make_settings
from PIL import Image
from tiny_project import composed

from rhs.config.compose import compose
from rhs.config.overrides import assigned
from rhs.errors import UserError
from rhs.tuning.results import (
    Provenance,
    as_config,
    experiment_file,
    importances,
    write_experiment,
    write_results,
)
from rhs.tuning.trial_log import TrialLog

ORIGIN = Provenance(
    "python -m pipelines.tune", {"glyphs": "ab" * 32}, code="cd" * 32, date="2026-11-22"
)
BASE = [
    "experiment=photos",
    "dataset.source='s3://user:word@b/x'",
    "model.dim=32",
    "method=symm_npair",
    "cluster.num_workers=4",
    "tracking=none",
]


@pytest.fixture
def own_conf(project):
    """The project's configuration, to be written to."""
    import shutil

    conf = (project / "conf").resolve()
    (project / "conf").unlink()
    shutil.copytree(conf, project / "conf")
    return project


def test_the_experiment_is_the_best_setting(own_conf, found, capsys):
    file = write_experiment(BASE, make_settings(), found, ORIGIN)
    assert "tiny.yaml holds an address with a password" in capsys.readouterr().out
    text = file.read_text()
    assert text.startswith("# @package _global_\n# Found by pipelines.tune")
    for told in (
        "python -m pipelines.tune",
        "glyphs abababab",
        "recall@1 50.00%",
        "cdcd",
        "2 finished, 1 stopped early, 1 failed",
        "2026-11-22",
        "epoch 2",
    ):
        assert told in text
    direct = compose([*BASE[:-2], *found.overrides, "train.select=best"])
    assert asdict(compose(["experiment=tiny"])) == asdict(direct)
    assert direct.method["name"] == "npair"  # the search's, not the shared one
    by_area = make_settings(objective="map@r")
    write_experiment(["dataset.source=b.tar"], by_area, found, ORIGIN)  # its own is replaced
    assert compose(["experiment=tiny"]).train.select == "best_map@r"
    assert "note" not in capsys.readouterr().out


def test_a_file_of_somebody_else_stays(own_conf, found):
    file = own_conf / "conf/experiment/tiny.yaml"
    file.write_text("# @package _global_\nseed: 7\n")
    with pytest.raises(UserError, match=r"tiny.yaml was not written by a search"):
        write_experiment([], make_settings(), found, ORIGIN)
    assert "seed: 7" in file.read_text()
    assert experiment_file("other").name == "other.yaml"


@pytest.mark.parametrize("override", ["+train.new=1", "~train.lr", "seed=1,2", "train.lr=[", "x"])
def test_overrides_that_no_experiment_can_have(override):
    with pytest.raises(UserError) as caught:
        assigned(override)
    assert override in str(caught.value)
    assert "\n" not in str(caught.value)


def test_values_keep_their_types(own_conf):
    overrides = [
        "train.lr=1e-05",
        "dataset.coarse='^a: b'",
        "dataset.recall_at=[1,2]",
        "dataset.train_classes=null",
    ]
    file = own_conf / "conf/experiment/kept.yaml"
    file.write_text("# @package _global_\n" + as_config(overrides))
    assert asdict(compose(["experiment=kept"])) == asdict(compose(overrides))


def test_tables_and_pictures(found, tmp_path):
    out = tmp_path / "results"
    write_results(out, make_settings(trials=5), found, composed(), ORIGIN)
    rows = list(csv.DictReader((out / "trials.csv").open()))
    assert [row["state"] for row in rows] == ["finished", "stopped", "failed", "finished"]
    assert rows[2]["reason"] == "The loss is nan."
    assert rows[0]["method.original_weight"] == ""
    frame = pd.read_csv(out / "trials.csv")
    assert frame["number"].tolist() == [0, 1, 2, 3]
    assert frame["objective"].dtype.kind == "f"
    assert frame["reason"].isna().tolist() == [True, True, False, True]
    best = json.loads((out / "best.json").read_text())
    assert (best["value"], best["trial"], best["epoch"]) == (0.5, 0, 2)
    assert best["digest"] == "ab" * 32
    for name in ("history", "parallel_coordinates"):
        width, height = Image.open(out / f"{name}.png").size
        assert min(width, height) > 300


def test_what_mattered(tmp_path):
    record = TrialLog(tmp_path / "trials.jsonl")
    for number in range(12):
        lr = 10 ** (-4 + 0.25 * number)
        method = ("npair", "rhs_npair")[number % 2]
        more = {"method.original_weight": 0.5} if number % 2 else {}
        record.begin(number, {"method": method, "train.lr": lr, **more}, [])
        record.epoch(number, 1, number / 12)
        record.end(number, "finished")
    shares = importances(make_settings(), record, composed())
    assert list(shares) == ["train.lr", "method"]
    assert sum(shares.values()) == pytest.approx(1)
    few = TrialLog(tmp_path / "few.jsonl")
    assert importances(make_settings(), few, composed()) == {}
