"""Shards that are not what their manifest says, and what embeddings depend on."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from tiny_project import ROOT, composed

from rhs.data.shards import load_manifest
from rhs.errors import UserError
from rhs.evaluation import ray_embedding, resumable_embedding

SENTENCE = "has not the {} images that its manifest says: run the preprocess stage again"


def test_another_number_of_rows_in_the_manifest(at_hand, shards, model, work, tmp_path):
    changed = shutil.copytree(shards, tmp_path / "changed")
    manifest = load_manifest(changed)
    (one,) = (shard for shard in manifest["shards"] if shard["file"] == "val-00001.parquet")
    one["rows"] -= 1
    (changed / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=rf"val-00001\.parquet {SENTENCE.format(4)}"):
        resumable_embedding.embed(composed(), changed, ["val"], model, work)


@pytest.mark.parametrize(
    ("stream", "file", "rows"),
    [
        ([(0, 6), (1, 5)], "val-00000", 7),
        ([(0, 7), (0, 1), (1, 5)], "val-00000", 7),
        ([(0, 4), (0, 4), (1, 5)], "val-00000", 7),
        ([(0, 7), (1, 4)], "val-00001", 5),
        ([(0, 7), (1, 5), (1, 1)], "val-00001", 5),
    ],
)
def test_another_number_of_rows_in_a_shard(
    at_hand, shards, model, work, monkeypatch, stream, file, rows
):
    made = [(task, {"trained": np.ones((count, 16), "f4")}) for task, count in stream]
    monkeypatch.setattr(ray_embedding, "embeddings", lambda *_: iter(made))
    with pytest.raises(UserError, match=rf"{file}\.parquet {SENTENCE.format(rows)}"):
        resumable_embedding.embed(composed(), shards, ["val"], model, work)


@pytest.mark.parametrize("package", ["torch", "torchvision", "numpy", "pillow", "simplejpeg"])
def test_embeddings_of_another_version_are_not_taken(
    at_hand, shards, model, work, monkeypatch, package
):
    resumable_embedding.embed(composed(), shards, ["val"], model, work)
    version = resumable_embedding.version
    monkeypatch.setattr(
        resumable_embedding, "version", lambda n: "0.0" if n == package else version(n)
    )
    resumable_embedding.embed(composed(), shards, ["val"], model, work)
    assert len(at_hand) == 2


def test_dvc_runs_the_stage_again_where_embeddings_would_be_made_again():
    stage = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["evaluate"]
    for entry in resumable_embedding.CODE:
        assert any(Path("rhs", entry).is_relative_to(dep) for dep in stage["deps"]), entry
    assert {"seed", "evaluate", "index", "dataset.recall_at"} <= set(stage["params"])
