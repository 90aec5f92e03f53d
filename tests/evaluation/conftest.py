"""Shards and a model to be evaluated."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from tiny_project import small_model_config, write_shard, write_shards

from rhs.data.shards import load_manifest
from rhs.evaluation import ray_embedding, resumable_embedding
from rhs.models.embedder import build_embedder, save_embedder

ROWS = 7  # in a shard: less than two batches of four


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    """Nine shards: five of train, two of val and test each; a class of test has one image."""
    folder = tmp_path_factory.mktemp("evaluated") / "shards"
    write_shards(folder, train=[5] * 6, val=[4] * 3, test=[4, 4, 3, 1])
    manifest, pieces = load_manifest(folder), []
    for shard in manifest["shards"]:
        rows = pq.read_table(folder / shard["file"]).to_pylist()
        (folder / shard["file"]).unlink()
        for i, start in enumerate(range(0, len(rows), ROWS)):
            path = folder / f"{shard['file'].partition('-')[0]}-{i:05d}.parquet"
            write_shard(path, rows[start : start + ROWS])
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            count = len(rows[start : start + ROWS])
            pieces.append({"file": path.name, "rows": count, "sha256": digest})
    assert len(pieces) == 9
    (folder / "manifest.json").write_text(json.dumps(manifest | {"shards": pieces}))
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "glyphs"
    folder.mkdir()
    config = small_model_config() | {"run": "glyphs-x"}
    save_embedder(folder, build_embedder(config, seed=5), config)
    return folder


@pytest.fixture
def work(tmp_path):
    folder = tmp_path / "runs" / "glyphs-x" / "embeddings"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def at_hand(project, shards, model, monkeypatch):
    """A project with shards and a model, whose images are embedded here and without a network."""
    (project / "data/shards").mkdir(parents=True)
    (project / "data/shards/folder").symlink_to(shards)
    (project / "models").mkdir()
    (project / "models/folder").symlink_to(model)
    asked = []

    def embeddings(params, shards, tasks, model):
        asked.append([task.file for task in tasks])
        for i, task in enumerate(tasks):
            nets = ("trained", "untrained") if task.untrained else ("trained",)
            random = np.random.default_rng(list(task.file.encode()))
            yield i, {net: random.standard_normal((task.rows, 16)).astype("f4") for net in nets}

    monkeypatch.setattr(ray_embedding, "embeddings", embeddings)
    monkeypatch.setattr(resumable_embedding, "connect", lambda cluster: None)
    return asked
