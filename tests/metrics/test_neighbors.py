"""Neighbors against a float64 reference that knows nothing of faiss."""

from __future__ import annotations

import numpy as np
import pytest
from retrieved import CASES, clustered

from rhs.errors import UserError
from rhs.metrics import neighbors as neighbors_module
from rhs.metrics.cosine import TIE
from rhs.metrics.neighbors import neighbors


def reference(embeddings: np.ndarray, query: int, others: list[int]) -> list[int]:
    """Other items, nearest first, those of a tie by their index: plain Python in float64."""
    unit = embeddings.astype(np.float64)
    norms = np.linalg.norm(unit, axis=1, keepdims=True)
    unit = unit / np.where(norms > 0, norms, 1)
    similarity = unit @ unit[query]
    groups: list[list[int]] = []
    leader = np.inf
    for i in sorted(others, key=lambda i: -similarity[i]):
        if not groups or similarity[i] < leader - TIE:
            groups.append([])
            leader = similarity[i]
        groups[-1].append(i)
    return [i for group in groups for i in sorted(group)]


def everyone_but(query: int, count: int) -> list[int]:
    return [i for i in range(count) if i != query]


@pytest.mark.parametrize("case", sorted(CASES.keys() - {"almost tied"}))
def test_neighbors_equal_the_reference(case):
    """But for almost tied ones, which float32 orders as it likes."""
    embeddings, _ = CASES[case](np.random.default_rng(3))
    similarities, indices = neighbors(embeddings, 5)
    unit = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-30)
    assert similarities.dtype == np.float32
    assert indices.dtype == np.int64
    assert (np.diff(similarities, axis=1) <= 0).all()
    for query in range(len(embeddings)):
        expected = reference(embeddings, query, everyone_but(query, len(embeddings)))
        assert indices[query].tolist() == expected[:5]
        exact = unit[indices[query]] @ unit[query]
        np.testing.assert_allclose(similarities[query], exact, atol=2 * TIE)


def test_self_is_excluded_even_among_exact_copies():
    embeddings = np.repeat(np.eye(3, dtype=np.float32), 40, axis=0)
    similarities, indices = neighbors(embeddings, 4)
    assert (indices != np.arange(120)[:, None]).all()
    assert (similarities == 1).all()
    assert indices[0].tolist() == [1, 2, 3, 4]
    assert indices[119].tolist() == [80, 81, 82, 83]  # lowest copies, though far beyond the list


def test_open_ties_are_seen_in_small_blocks(monkeypatch):
    """Many queries with a tie past the list, several blocks of full rows, several query chunks."""
    monkeypatch.setattr(neighbors_module, "_ROW_BUDGET", 400)
    monkeypatch.setattr(neighbors_module, "_QUERY_CHUNK", 17)
    embeddings = np.repeat(np.random.default_rng(1).normal(size=(3, 5)), 50, axis=0)
    _, indices = neighbors(embeddings, 4)
    for query in range(150):
        assert indices[query].tolist() == reference(embeddings, query, everyone_but(query, 150))[:4]


def test_k_beyond_the_gallery():
    embeddings, _ = clustered(np.random.default_rng(0), 10, 2)
    assert neighbors(embeddings, 99)[1].shape == (10, 9)


def test_neighbors_are_of_the_gallery_alone():
    rng = np.random.default_rng(0)
    embeddings, _ = clustered(rng, 90, 12, dim=4)
    embeddings[45:] = embeddings[rng.integers(45, size=45)]
    queries = rng.random(90) < 0.4
    _, indices = neighbors(embeddings, 4, queries)
    assert indices.shape == (queries.sum(), 4)
    for row, query in enumerate(np.flatnonzero(queries)):
        expected = reference(embeddings, query, np.flatnonzero(~queries).tolist())
        assert indices[row].tolist() == expected[:4]
    assert neighbors(embeddings, 1000, queries)[1].shape[1] == (~queries).sum()


def test_a_copy_in_the_gallery_is_found():
    embeddings, _ = clustered(np.random.default_rng(1), 90, 12, dim=4)
    queries = np.arange(90) < 30
    embeddings[77] = embeddings[0]
    similarities, indices = neighbors(embeddings, 1, queries)
    assert indices[0, 0] == 77
    assert similarities[0, 0] == pytest.approx(1)


@pytest.mark.parametrize("queries", [0, 3])
def test_queries_without_a_gallery_are_refused(queries):
    sentence = f"There are {queries} queries and {3 - queries} images of the gallery; at least one"
    with pytest.raises(UserError, match=sentence):
        neighbors(np.ones((3, 4)), 1, np.arange(3) < queries)


def test_no_neighbors_are_refused():
    with pytest.raises(UserError, match="k is 0"):
        neighbors(np.ones((3, 4)), 0)
