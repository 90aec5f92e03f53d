"""What the stage leaves, says and refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
from folders import files
from tiny_project import composed, small_params, write_shards

from pipelines import evaluate
from pipelines.evaluate import track
from rhs.data.embedding_files import Embeddings, read_files, read_split, write_embedded
from rhs.data.shards import load_manifest
from rhs.errors import UserError
from rhs.evaluation import resumable_embedding, scoring
from rhs.evaluation.intervals import written
from rhs.metrics.retrieval import score
from rhs.metrics.sharded_gallery import ShardedGallery
from rhs.models.embedder import model_digest
from rhs.tracking.tracker import NullTracker


def test_what_the_stage_leaves_and_says(at_hand, stage_of, project, shards, model, capsys):
    before = files(project)
    stage_of("evaluate", "dataset.recall_at=[1,3]", "evaluate.nmi_seeds=2")
    said = capsys.readouterr().out.splitlines()
    shown = {f"embeddings/folder/{s['file']}" for s in load_manifest(shards)["shards"]}
    index = {f"index/folder/{name}" for name in ("index.faiss", "index.json", "items.parquet")}
    assert files(project) - before == {"metrics.json"} | shown | index

    metrics = json.loads((project / "metrics.json").read_text())
    assert list(metrics) == ["val", "test", "untrained"]
    test = read_split(project / "embeddings/folder", "test")
    expected = score(test.embeddings, test.labels, (1, 3))
    for name, value in expected.values.items():
        assert metrics["test"][name] == value
        assert metrics["test"]["intervals"][name] == written(expected.intervals[name])
    assert set(metrics["test"]) == {*expected.values, "nmi", "queries", "left_out", "intervals"}
    low, high = metrics["test"]["intervals"]["nmi"].values()
    assert 0 <= low <= metrics["test"]["nmi"] <= high <= 1
    assert (metrics["test"]["queries"], metrics["test"]["left_out"]) == (11, 1)
    assert metrics["untrained"]["map@r"] != metrics["test"]["map@r"]
    facts = json.loads((project / "index/folder/index.json").read_text())
    assert (facts["images"], facts["model"]) == (54, model_digest(model))

    assert said[0].startswith("index: 54 images, flat, ")
    low, high = (100 * end for end in expected.intervals["recall@1"])
    start = (
        f"recall@1 {100 * expected.values['recall@1']:.1f} % ({low:.1f} to {high:.1f})  recall@3 "
    )
    assert [line.split()[0] for line in said[1:]] == ["val", "test", "untrained"]
    assert said[2].strip().startswith(f"test  {start}")
    assert "left out" not in said[1]
    assert said[2].endswith("left out: 1 query, no other image of its class")


@pytest.mark.parametrize("what", ["build_index", "publish"])
def test_what_fails_after_embedding_does_not_embed_again(
    at_hand, stage_of, project, capsys, monkeypatch, what
):
    before = files(project)

    def fails(*_):
        raise UserError("It cannot be.")

    with monkeypatch.context() as patch:
        patch.setattr(evaluate, what, fails)
        with pytest.raises(SystemExit):
            stage_of("evaluate", "evaluate.nmi_seeds=0")
    assert capsys.readouterr().err == "error: It cannot be.\n"
    work = {path.parent for path in (project / "runs").rglob("*.parquet")}
    assert work == {project / "runs/glyphs-x/embeddings"}
    assert not any(name.startswith(("embeddings", "index", "metrics")) for name in files(project))
    stage_of("evaluate", "evaluate.nmi_seeds=0")
    assert capsys.readouterr().out.startswith("embedding 0 of 9 shards, 9 are there\n")
    assert len(at_hand) == 1
    assert not [name for name in files(project) - before if name.startswith("runs")]


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("evaluate.batch_size=0", "evaluate.batch_size is 0; it must be a whole number at least 1"),
        ("evaluate.nmi_seeds=-1", "evaluate.nmi_seeds is -1; it must be a whole number at least 0"),
        ("evaluate.nmi_seeds=null", "evaluate.nmi_seeds is None; it must be a whole number"),
        ("evaluate.bootstrap=1.5", "evaluate.bootstrap is 1.5; it must be a whole number"),
        (
            "evaluate.memory_mib=1",
            "evaluate.memory_mib is 1; it must be a whole number at least 16",
        ),
        ("cluster.max_failures=-2", "cluster.max_failures is -2; it must be a whole number"),
        ("cluster.gallery_shards=0", "cluster.gallery_shards is 0; it must be a whole number"),
        ("dataset.recall_at=[1,0]", "dataset.recall_at is 0; it must be a whole number at least 1"),
        ("dataset.recall_at=[]", "dataset.recall_at is []; it must be a list such as"),
        ("dataset.recall_at=4", "dataset.recall_at is 4; it must be a list such as"),
        ("index.kind=tree", "index.kind is 'tree'; accepted: auto, flat"),
        ("index.splits=[dev]", "index.splits is"),
        ("index.kind=ivf_pq", "index.kind=ivf_pq"),
    ],
)
def test_a_setting_that_is_wrong_is_refused_before_anything(at_hand, refused, override, sentence):
    assert sentence in refused("evaluate", override)
    assert at_hand == []


def test_a_gallery_in_parts_scores_the_same_though_a_worker_is_killed(
    ray_cluster, at_hand, shards, model, work, monkeypatch, capsys
):
    import ray

    killed, queries = [], ShardedGallery.queries

    def kills(self, *what):
        if not killed:
            killed.append(self._holders[1])
            ray.kill(killed[0])
        return queries(self, *what)

    params = small_params("evaluate.nmi_seeds=1", "cluster.resources_per_worker.CPU=0.5")
    files = resumable_embedding.embed(params, shards, ["test"], model, work)["test"]
    whole = scoring.score_files(params, files)
    monkeypatch.setattr(ShardedGallery, "queries", kills)
    parts = scoring.score_files(params.with_cluster(gallery_shards=2), files)
    del whole["nmi"], whole["intervals"]["nmi"]
    assert parts == whole
    assert len(killed) == 1
    said = capsys.readouterr().out
    assert said.count("holding the gallery: a worker was lost, its work is done again (") == 1


def test_a_gallery_in_parts_has_no_index(at_hand, stage_of, project, monkeypatch, capsys):
    shown = []

    def scored(files, ks, cluster, **settings):
        stored = read_files(files)
        return score(stored.embeddings, stored.labels, ks, stored.queries, **settings)

    stage_of("evaluate", "evaluate.nmi_seeds=0")
    whole = (project / "metrics.json").read_text()
    assert (project / "index/folder/index.json").exists()
    capsys.readouterr()
    monkeypatch.setattr(scoring, "connect", lambda cluster: None)
    monkeypatch.setattr(scoring, "sharded_score", scored)
    monkeypatch.setattr(evaluate, "track", lambda *what: shown.append(what[-2:]))
    stage_of("evaluate", "cluster.gallery_shards=2")
    why = (
        "no index: one process would have to hold all images, and cluster.gallery_shards = 2 says "
        "that none can"
    )
    assert capsys.readouterr().out.splitlines()[0] == why
    assert [path.name for path in (project / "index/folder").iterdir()] == ["left_out.txt"]
    assert (project / "index/folder/left_out.txt").read_text() == f"{why}.\n"
    assert shown == [(None, None)]
    assert {name.partition("-")[0] for name in at_hand[1]} == {"val", "test"}  # train: for an index
    assert (project / "metrics.json").read_text() == whole


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_split_without_an_answer_is_refused_before_anything(at_hand, refused, project, split):
    (project / "data/shards/folder").unlink()
    classes = {"train": [2, 2], "val": [2, 2], "test": [2, 2]} | {split: [1, 1, 1]}
    write_shards(project / "data/shards/folder", **classes)
    assert f"None of the 3 images of split '{split}' has another of" in refused("evaluate")
    assert at_hand == []


def test_an_image_without_a_class_is_not_scored(tmp_path):
    labels = np.array([0, 0, -1, 1, 1, -1])
    names = [f"{i}.png" for i in range(6)]
    embedded = Embeddings(np.eye(6, dtype=np.float32), labels, names, [""] * 6, None)
    write_embedded(tmp_path / "test-00000.parquet", embedded)
    with pytest.raises(UserError, match=f"{tmp_path}: 2 images have no class .label -1.; every"):
        scoring.score_files(composed(), [tmp_path / "test-00000.parquet"])


def test_long_clustering_is_told_and_the_untrained_network_is_clustered_once(
    at_hand, stage_of, monkeypatch, capsys
):
    seeds, real = [], scoring.nmi
    monkeypatch.setattr(scoring, "LONG", 2.0 * 12 * 4 * 16 * 20 * 3)  # operations: of test three
    monkeypatch.setattr(scoring, "nmi", lambda *a, **b: seeds.append(b["seeds"]) or real(*a, **b))
    stage_of("evaluate", "evaluate.nmi_seeds=4", "index.splits=[test]")
    assert seeds == [4, 4, 1]
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("NMI")]
    assert told == [
        "NMI: 4 runs of k-means on 12 images of 4 classes take about 1e+05 operations; "
        "evaluate.nmi_seeds=1 takes one run, 0 none"
    ]


def test_without_intervals_nmi_and_untrained_network(at_hand, stage_of, project):
    stage_of(
        "evaluate",
        "evaluate.untrained=false",
        "evaluate.nmi_seeds=0",
        "evaluate.bootstrap=0",
        "index.splits=[test]",
    )
    assert at_hand[0] == [
        f"{s}.parquet" for s in ("val-00000", "val-00001", "test-00000", "test-00001")
    ]
    metrics = json.loads((project / "metrics.json").read_text())
    assert set(metrics) == {"val", "test"}
    assert not {"nmi", "intervals"} & set(metrics["test"])
    assert "intervals" not in scoring.flat_metrics(metrics["test"])


def test_what_mlflow_gets(monkeypatch):
    got = {}

    def register(*arguments, index=None):
        got["registered"] = (*arguments, index)
        return "m-1"

    class Tracker(NullTracker):
        def register(self, model, log):
            return log("run-1", "data-1")

        def metrics(self, values, step, group="train", model_id=None):
            got[group] = (values, step, model_id)

    val = {
        "recall@1": 0.5,
        "map@r": 0.25,
        "queries": 4,
        "left_out": 0,
        "intervals": {"recall@1": {"low": 0.25, "high": 0.75}},
    }
    monkeypatch.setattr("rhs.inference.mlflow_model.register", register)
    facts = {"kind": "flat", "images": 9, "recall_at_10": 1.0, "settings": {"splits": ["test"]}}
    params = composed()
    track(Tracker(), params, {"val": val}, Path("m"), b"x", Path("i"), facts)
    name = params.tracking.registered_model
    assert got["registered"] == (Path("m"), name, 0.5, "run-1", "data-1", b"x", Path("i"))
    assert got["val"][1:] == got["index"][1:] == (0, "m-1")
    assert got["val"][0] == {
        "recall@1": 0.5,
        "map@r": 0.25,
        "recall@1_low": 0.25,
        "recall@1_high": 0.75,
    }
    assert got["index"][0] == {"images": 9, "recall_at_10": 1.0}
