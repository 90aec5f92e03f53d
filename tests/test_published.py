"""A published data set from a mirror to its scores: its split, its gallery, its Ks."""

import sys

import fake_archives
import numpy as np
import pytest
from fake_archives import put
from folders import files
from tiny_project import composed

from pipelines import fetch, preprocess
from rhs.data.embedding_files import read_files
from rhs.data.shards import ShardedImages, load_manifest
from rhs.datasets import inshop
from rhs.evaluation import ray_embedding, resumable_embedding
from rhs.evaluation.scoring import score_files
from rhs.stage import stage


@pytest.fixture
def staged(project, monkeypatch):
    def run(module, *overrides: str) -> None:
        monkeypatch.setattr(sys, "argv", [module.__name__, "dataset=inshop", *overrides])
        stage(module.main)

    return run


def test_in_shop_from_a_mirror(ray_cluster, staged, project, tmp_path, monkeypatch):
    images, text = fake_archives.inshop()
    for name, content in (("img.zip", images), ("list_eval_partition.txt", text)):
        put(tmp_path / "mirror" / "inshop", name, content)
    monkeypatch.setattr(inshop, "EXPECTED", fake_archives.INSHOP_COUNTS)
    monkeypatch.setenv("RHS_MIRROR", str(tmp_path / "mirror"))
    staged(fetch)
    staged(preprocess, "dataset.validation=0")
    shards = project / "data/shards/inshop"
    assert load_manifest(shards)["splits"] == {
        "train": {"classes": 2, "images": 4, "singletons": 0},
        "val": {"classes": 0, "images": 0, "singletons": 0},
        "test": {"classes": 2, "images": 6, "singletons": 0, "queries": 2, "gallery": 4},
    }
    test = ShardedImages(shards, "test")
    assert test.queries.sum() == 2
    assert ShardedImages(shards, "train").queries is None

    # Each query is nearest to an image of the other class; one of its own comes next.
    x = np.eye(6, dtype=np.float32)
    gallery = ~test.queries
    for query in np.flatnonzero(test.queries):
        same = test.labels == test.labels[query]
        x[query] = 0.9 * x[gallery & ~same][0] + 0.4 * x[gallery & same][0]
    monkeypatch.setattr(
        ray_embedding, "embeddings", lambda *_: [(0, {"trained": x, "untrained": x})]
    )
    monkeypatch.setattr(resumable_embedding, "model_digest", lambda _: "of this model")
    params = composed("dataset=inshop")
    (work := tmp_path / "work").mkdir()
    made = resumable_embedding.embed(params, shards, ["test"], project, work)
    np.testing.assert_array_equal(read_files(made["test"]).queries, test.queries)
    scores = score_files(params, made["test"])
    assert [key for key in scores if key.startswith("recall")] == [
        f"recall@{k}" for k in (1, 10, 20, 30, 40)
    ]
    assert scores["queries"] == 2
    assert (scores["recall@1"], scores["recall@10"]) == (0, 1)
    assert scores["intervals"]["recall@1"] == {"low": 0, "high": 0}


def test_a_mirror_that_is_not_there(staged, project, tmp_path, capsys):
    with pytest.raises(SystemExit):
        staged(fetch, f"fetch.mirror={tmp_path / 'gone'}")
    said = capsys.readouterr().err
    assert said.startswith("error: fetch.mirror is")
    assert "which is no folder here" in said
    assert files(project) == set()
