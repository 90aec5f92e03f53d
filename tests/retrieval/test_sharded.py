"""A gallery held by several workers of a Ray cluster scores as one in this process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from retrieved import clustered, with_duplicates

from rhs.errors import UserError
from rhs.retrieval.gallery import Gallery
from rhs.retrieval.scores import score
from rhs.retrieval.sharded import sharded_score
from rhs.retrieval.stored import Embedded, write_embedded

TWO = {"gallery_shards": 2, "resources_per_worker": {"CPU": 0.5}}


def stored(folder: Path, embeddings, labels, queries=None, sizes=(5, 1, 30, 20)) -> list[Path]:
    """Files of so many rows each; the rest in a last one."""
    ends = np.cumsum(sizes)
    parts = np.split(np.arange(len(labels)), ends)
    for i, rows in enumerate(parts):
        asked = None if queries is None else queries[rows]
        names = [f"{row}.png" for row in rows]
        written = Embedded(embeddings[rows], labels[rows], names, [""] * len(rows), asked)
        write_embedded(folder / f"test-{i:05}.parquet", written)
    return sorted(folder.glob("*.parquet"))


@pytest.mark.parametrize("asked", [False, True])
def test_the_scores_are_those_of_one_process(ray_cluster, tmp_path, asked):
    rng = np.random.default_rng(0)
    embeddings, labels = clustered(rng, 150, 12)
    copies, others = with_duplicates(rng)
    embeddings, labels = np.concatenate([embeddings, copies]), np.concatenate([labels, others])
    queries = rng.random(len(labels)) < 0.3 if asked else None
    if asked:
        queries[:6] = True  # two files without an item of the gallery
    files = stored(tmp_path, embeddings, labels, queries)
    assert sharded_score(files, (1, 5, 50), TWO) == score(embeddings, labels, (1, 5, 50), queries)


def test_more_workers_than_the_cluster_has(ray_cluster, tmp_path):
    embeddings, labels = clustered(np.random.default_rng(0), 90, 5)
    files = stored(tmp_path, embeddings, labels)
    with pytest.raises(UserError, match="gallery_shards = 5 with 1 CPU each need 5 CPU; there are"):
        sharded_score(files, (1,), {"gallery_shards": 9, "resources_per_worker": {"CPU": 1}})


def test_an_empty_part_answers_nothing():
    empty = Gallery(np.empty((0, 4), np.float32), np.empty(0, np.int64), np.empty(0, np.int64))
    from rhs.retrieval.gallery import Queries

    asked = Queries(np.eye(4, dtype=np.float32)[:2], np.array([0, 1]), np.array([0, 1]))
    sims, own = empty.relevant(asked)
    assert sims.shape == (2, 0)
    assert (own == -np.inf).all()
    assert (empty.floor(asked, np.array([1, 1])) == -np.inf).all()
    counts, many = empty.above(asked, np.array([[0.5], [0.1]]))
    assert counts.tolist() == [[0], [0]]
    assert not many.any()
    assert empty.above_in_full(asked, np.array([[0.5], [0.1]])).tolist() == [[0], [0]]
