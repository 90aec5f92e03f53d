"""A gallery held by several workers of a Ray cluster scores as one in this process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from retrieved import clustered, with_duplicates
from tiny_project import cluster_config

from rhs.data.embedding_files import Embeddings, write_embedded
from rhs.errors import UserError
from rhs.metrics import gallery_workers
from rhs.metrics.cosine import unit_rows
from rhs.metrics.gallery import Gallery
from rhs.metrics.retrieval import score
from rhs.metrics.sharded_gallery import sharded_score

TWO = cluster_config(gallery_shards=2, resources_per_worker={"CPU": 0.5})


def stored(folder: Path, embeddings, labels, queries=None, sizes=(5, 1, 30, 20)) -> list[Path]:
    """Files of so many rows each; the rest in a last one."""
    ends = np.cumsum(sizes)
    parts = np.split(np.arange(len(labels)), ends)
    for i, rows in enumerate(parts):
        asked = None if queries is None else queries[rows]
        names = [f"{row}.png" for row in rows]
        written = Embeddings(embeddings[rows], labels[rows], names, [""] * len(rows), asked)
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
    sentence = (
        r"gallery_shards is 9: 3 workers \(at most one a shard\) with 1 CPU each need 3 CPU; "
    )
    with pytest.raises(UserError, match=sentence):
        sharded_score(
            files, (1,), cluster_config(gallery_shards=9, resources_per_worker={"CPU": 1})
        )
    with pytest.raises(
        UserError, match=r"gallery_shards is 1: 1 workers .* need 2 big; there are 0"
    ):
        sharded_score(
            files, (1,), cluster_config(gallery_shards=1, resources_per_worker={"big": 2})
        )


def test_a_place_that_is_taken_is_waited_for(ray_cluster, tmp_path, monkeypatch, capsys):
    import ray

    @ray.remote(num_cpus=2)
    class Other:
        pass

    monkeypatch.setattr(gallery_workers, "TELL_AFTER", 0.1)
    monkeypatch.setattr(gallery_workers, "WAIT", 0.2)
    embeddings, labels = clustered(np.random.default_rng(0), 90, 5)
    files = stored(tmp_path, embeddings, labels)
    other = Other.remote()
    ray.get(other.__ray_ready__.remote())
    with pytest.raises(
        UserError, match=r"2 of the 2 workers .* in 0 s: each needs {'CPU': 0.5} on"
    ):
        sharded_score(files, (1,), TWO)
    ray.kill(other)
    assert capsys.readouterr().out == (
        "waiting for the cluster: 2 of the 2 workers that hold the gallery "
        "(cluster.gallery_shards) have no place\n"
    )


@pytest.mark.slow
def test_a_row_that_is_no_number_is_one_sentence(ray_cluster, tmp_path):
    embeddings, labels = clustered(np.random.default_rng(0), 90, 5)
    embeddings[7] = np.nan
    with pytest.raises(UserError) as told:
        sharded_score(stored(tmp_path, embeddings, labels), (1,), TWO)
    assert str(told.value).startswith("Embedding row 1 holds NaN")
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("asked", [False, True])
def test_a_worker_holds_each_row_once(tmp_path, asked):
    rng = np.random.default_rng(0)
    embeddings, labels = clustered(rng, 60, 5)
    queries = rng.random(60) < 0.3 if asked else None
    files, start = stored(tmp_path, embeddings, labels, queries, sizes=(20, 25)), 100
    holder = gallery_workers.GalleryWorker(start, labels, queries, embeddings.shape[1], 256)
    for first, file in zip((0, 20, 45), files, strict=True):
        holder.take(start + first, file.read_bytes())
    holder.hold()
    unit, ids = unit_rows(embeddings), rng.permutation(60)
    np.testing.assert_array_equal(holder.rows(start + ids), unit[ids])
    kept = holder._gallery
    assert np.shares_memory(kept.unit.numpy(), holder._unit_ND)
    assert (np.diff(kept.labels) >= 0).all()
    np.testing.assert_array_equal(kept.labels, labels[kept.ids - start])
    np.testing.assert_array_equal(kept.unit.numpy(), unit[kept.ids - start])
    there = np.arange(60) if queries is None else np.flatnonzero(~queries)
    assert sorted(kept.ids - start) == there.tolist()


def test_an_empty_part_answers_nothing():
    empty = Gallery(np.empty((0, 4), np.float32), np.empty(0, np.int64), np.empty(0, np.int64))
    from rhs.metrics.gallery import Queries

    asked = Queries(np.eye(4, dtype=np.float32)[:2], np.array([0, 1]), np.array([0, 1]))
    sims, own = empty.relevant(asked)
    assert sims.shape == (2, 0)
    assert (own == -np.inf).all()
    assert (empty.floor(asked, np.array([1, 1])) == -np.inf).all()
    counts, many = empty.above(asked, np.array([[0.5], [0.1]]))
    assert counts.tolist() == [[0], [0]]
    assert not many.any()
    assert empty.above_in_full(asked, np.array([[0.5], [0.1]])).tolist() == [[0], [0]]
