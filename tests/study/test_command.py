"""`python -m pipelines.study`: its arguments, and data sets prepared when they have to be."""

import json
import sys
from dataclasses import asdict
from functools import partial

import pytest
from folders import files

from pipelines import ensure_shards, study
from rhs.config.compose import compose
from rhs.stage import stage


def test_arguments_are_divided():
    given = ["study=frozen", "study.seeds=[0]", "train.epochs=2", "tracking=none"]
    assert study.divided(given) == (
        "frozen",
        ["study.seeds=[0]"],
        ["train.epochs=2", "tracking=none"],
    )
    assert study.divided([]) == ("glyphs", [], [])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            ["study=nothing"],
            "study=nothing is unknown; accepted: frozen, full, glyphs, omniglot, scratch, small.",
        ),
        (["study=frozen"], "study.datasets is missing"),
        (["study=frozen", "study.datasets=nowhere"], "does not exist"),
        (["study.seeds=none"], "study.seeds is 'none'"),
        (["study.tune.trials=1.5"], "study.tune.trials is 1.5"),
        (["study.seeds=[[0]]"], "study.seeds is [0]"),
        (["study.baselines=[[npair]]"], "study.baselines has ['npair']"),
        (["study.data=null", "study.data=[glyphs]"], "study.data is None"),
        (["study.name=a/b"], "study.name is 'a/b'"),
        (["study.name=null"], "study.name is None"),
        (["study.tune.space.train.lr={low:1,high:2}"], "is changed in its file in conf/study"),
        (["cluster.storage=."], "cluster.storage is '.'"),
    ],
)
def test_a_mistake_is_a_sentence(project, monkeypatch, capsys, given, said):
    monkeypatch.delenv("RHS_DATASETS", raising=False)
    monkeypatch.setattr(sys, "argv", ["study", *study.divided(given)[2], "seed=0"])
    before = files(project)
    with pytest.raises(SystemExit) as left:
        stage(partial(study.main, arguments=given))
    assert left.value.code == 1
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert told.count("\n") == 1
    assert said in told
    assert files(project) == before


def test_data_sets_are_prepared_once_and_anew_with_other_settings(project, monkeypatch):
    did = []
    for name in ("fetch", "preprocess"):
        monkeypatch.setattr(
            getattr(ensure_shards, name), "main", lambda params, name=name: did.append(name)
        )
    params = compose(["dataset.validation=0.2"])
    shards = ensure_shards.prepared(params)
    assert did == ["fetch", "preprocess"]
    given = {made: getattr(params.dataset, key) for key, made in ensure_shards.DATASET.items()}
    wanted = asdict(params.preprocess) | {k: v for k, v in given.items() if v is not None}
    shards.mkdir(parents=True)
    (shards / "manifest.json").write_text(json.dumps({"settings": wanted}))
    ensure_shards.prepared(params)
    assert len(did) == 2
    ensure_shards.prepared(compose(["dataset.validation=0.1"]))
    assert len(did) == 4
    raw = project / "data/raw/glyphs"
    raw.mkdir(parents=True)
    (raw / "source.json").write_text(
        json.dumps({"source": params.dataset.source, "fetch": dict(params.dataset.fetch)})
    )
    ensure_shards.prepared(params)
    assert len(did) == 4
    ensure_shards.prepared(compose(["dataset.validation=0.2", "dataset.fetch.size=64"]))
    assert len(did) == 6
