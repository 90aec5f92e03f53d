"""What earlier versions wrote is read as ever: a model, an index of each kind, embeddings.

`tests/assets/saved_project` was written before modules, classes and settings got their present
names.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest

from rhs.data.embedding_files import read_files
from rhs.data.shards import ShardedImages
from rhs.inference.image_embedder import ImageEmbedder
from rhs.inference.index import open_index
from rhs.metrics.retrieval import score
from rhs.models.embedder import load_config

SAVED = Path(__file__).parent / "assets/saved_project"


@pytest.fixture
def saved(tmp_path) -> Path:
    """A copy: reading must need no more, and tests may change it."""
    return Path(shutil.copytree(SAVED, tmp_path / "project"))


def test_an_old_model_embeds_as_it_did(saved):
    embedder = ImageEmbedder(saved / "models/tiny")
    images = ShardedImages(saved / "data/shards/tiny", "test")
    prepared = [embedder.prepare(images.bytes(i)) for i in range(len(images))]
    x_ND = embedder.embed([embedder.pixels(each) for each in prepared])
    kept = read_files([saved / "embeddings/tiny/test.parquet"])
    np.testing.assert_allclose(x_ND, kept.embeddings, atol=1e-5)
    assert kept.names == images.names
    assert load_config(saved / "models/tiny")["dim"] == kept.embeddings.shape[1]


@pytest.mark.parametrize("kind", ["flat", "hnsw"])
def test_an_old_index_is_searched_with_the_old_model(kind, saved):
    index = open_index(saved / "index" / kind, saved / "models/tiny")
    kept = read_files([saved / "embeddings/tiny/test.parquet"])
    for name, (hit, *_) in zip(kept.names, index.search(kept.embeddings, 3), strict=True):
        assert hit.item.name == name
        assert hit.similarity == pytest.approx(1, abs=0.01)


def test_old_embeddings_are_evaluated_to_the_same_scores(saved):
    kept = read_files([saved / "embeddings/tiny/test.parquet"])
    values = score(kept.embeddings, kept.labels, [1, 2], draws=0).values
    expected = {"recall@1": 0.875, "recall@2": 0.875, "r_precision": 0.5, "map@r": 0.4583333}
    assert {name: values[name] for name in expected} == pytest.approx(expected, abs=1e-6)
