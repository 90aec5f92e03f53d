"""Queries that search a gallery: against plain Python in float64."""

from math import comb

import numpy as np
import pytest

from rhs.errors import UserError
from rhs.retrieval import neighbors as neighbors_module
from rhs.retrieval.neighbors import TIE, neighbors
from rhs.retrieval.recall import recall_at_k

KS = [1, 2, 5, 40]


def drawn(seed: int, copies: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """90 embeddings of up to 12 classes, their labels, and which of them are queries."""
    random = np.random.default_rng(seed)
    labels = random.integers(12, size=90)
    x = random.normal(size=(12, 4))[labels] + random.normal(size=(90, 4))
    if copies:
        x[45:] = x[random.integers(45, size=45)]
    queries = random.random(90) < 0.4
    queries[labels == 3] = True  # a class that the gallery has not
    queries[labels == 4] = False  # and one that nobody asks for
    return x.astype(np.float32), labels, queries


def reference(x, labels, queries, k: int) -> tuple[float, int]:
    """Mean chance of a hit among the first k of the gallery, and the queries that count."""
    unit = x.astype(np.float64) / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)
    gallery = np.flatnonzero(~queries)
    chances = []
    for query in np.flatnonzero(queries):
        if labels[query] not in labels[gallery]:
            continue
        similarity = {i: unit[i] @ unit[query] for i in gallery}
        groups, leader = [], np.inf
        for i in sorted(gallery, key=lambda i: -similarity[i]):
            if similarity[i] < leader - TIE:
                groups.append([])
                leader = similarity[i]
            groups[-1].append(i)
        miss, slots = 1.0, k
        for group in groups:
            right, taken = int((labels[group] == labels[query]).sum()), min(slots, len(group))
            miss *= comb(len(group) - right, taken) / comb(len(group), taken)
            slots -= taken
        chances.append(1 - miss)
    return float(np.mean(chances)), len(chances)


@pytest.mark.parametrize("copies", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_recall_is_the_references(seed, copies):
    x, labels, queries = drawn(seed, copies)
    scores = recall_at_k(x, labels, KS, queries)
    for k in KS:
        share, counted = reference(x, labels, queries, k)
        assert scores[f"recall@{k}"] == pytest.approx(share, abs=1e-12)
        assert scores["queries"] == counted
    assert scores["left_out"] == queries.sum() - counted > 0


def test_neighbors_are_of_the_gallery_alone():
    x, _, queries = drawn(0, copies=True)
    similarities, indices = neighbors(x, 4, queries)
    assert similarities.shape == indices.shape == (queries.sum(), 4)
    assert not queries[indices].any()
    assert neighbors(x, 1000, queries)[1].shape[1] == (~queries).sum()


def test_a_copy_in_the_gallery_is_found():
    x, _, queries = drawn(1, copies=False)
    query, copy = np.flatnonzero(queries)[0], np.flatnonzero(~queries)[0]
    x[copy] = x[query]
    similarities, indices = neighbors(x, 1, queries)
    assert indices[0, 0] == copy
    assert similarities[0, 0] == pytest.approx(1)


def test_constant_embeddings_score_chance(monkeypatch):
    monkeypatch.setattr(neighbors_module, "_ROW_BUDGET", 500)  # several blocks of full rows
    _, labels, queries = drawn(2, copies=False)
    scores = recall_at_k(np.ones((90, 4)), labels, [1], queries)
    gallery = labels[~queries]
    chance = [np.mean(gallery == label) for label in labels[queries] if label in gallery]
    assert scores["recall@1"] == pytest.approx(np.mean(chance))


def test_no_query_with_an_answer():
    labels = np.array([0, 0, 1, 1])
    with pytest.raises(UserError, match="None of the 4 items has another of its class"):
        recall_at_k(np.eye(4), labels, [1], labels == 0)
