"""Recall@K and neighbors against a float64 reference that knows nothing of faiss."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest

from rhs.errors import UserError
from rhs.retrieval import neighbors as neighbors_module
from rhs.retrieval.neighbors import TIE, neighbors
from rhs.retrieval.recall import recall_at_k

KS = (1, 2, 4, 8)


def reference_groups(embeddings: np.ndarray, query: int) -> list[list[int]]:
    """Tie groups of all the other items, nearest first, plain Python in float64."""
    unit = embeddings.astype(np.float64)
    norms = np.linalg.norm(unit, axis=1, keepdims=True)
    unit = unit / np.where(norms > 0, norms, 1)
    similarity = unit @ unit[query]
    groups, leader = [], None
    for i in sorted((i for i in range(len(unit)) if i != query), key=lambda i: -similarity[i]):
        if leader is None or similarity[i] < leader - TIE:
            groups.append([])
            leader = similarity[i]
        groups[-1].append(i)
    return [sorted(group) for group in groups]


def reference_recall(embeddings: np.ndarray, labels: np.ndarray, k: int) -> float:
    chances = []
    for query, label in enumerate(labels):
        if (labels == label).sum() < 2:
            continue
        miss, slots = 1.0, k
        for group in reference_groups(embeddings, query):
            right = int((labels[group] == label).sum())
            taken = min(slots, len(group))
            miss *= comb(len(group) - right, taken) / comb(len(group), taken)
            slots -= taken
            if not slots:
                break
        chances.append(1 - miss)
    return float(np.mean(chances))


def clustered(rng: np.random.Generator, n: int, classes: int, dim: int = 6) -> tuple:
    labels = rng.integers(classes, size=n)
    centers = rng.normal(size=(classes, dim))
    return (centers[labels] + rng.normal(size=(n, dim))).astype(np.float32), labels


def with_duplicates(rng: np.random.Generator) -> tuple:
    embeddings, labels = clustered(rng, 60, 9)
    embeddings[30:] = embeddings[rng.integers(30, size=30)]  # copies, often under another label
    return embeddings, labels


def on_a_grid(rng: np.random.Generator) -> tuple:
    return rng.integers(-1, 2, size=(70, 3)).astype(np.float32), rng.integers(8, size=70)


def with_singletons(rng: np.random.Generator) -> tuple:
    embeddings, labels = clustered(rng, 40, 6)
    labels[:7] = np.arange(100, 107)
    return embeddings, labels


CASES = {
    "plain": lambda rng: clustered(rng, 50, 8),
    "duplicates": with_duplicates,
    "ties": on_a_grid,  # also holds rows of zeros
    "singletons": with_singletons,
    "one class": lambda rng: (rng.normal(size=(12, 4)), np.zeros(12, dtype=int)),
    "two items": lambda rng: (rng.normal(size=(2, 4)), np.zeros(2, dtype=int)),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("seed", range(3))
def test_recall_equals_the_reference(case, seed):
    embeddings, labels = CASES[case](np.random.default_rng(seed))
    scores = recall_at_k(embeddings, labels, KS)
    for k in KS:
        expected = reference_recall(embeddings, labels, k)
        assert scores[f"recall@{k}"] == pytest.approx(expected, abs=1e-9), k


@pytest.mark.parametrize("case", CASES)
def test_neighbors_equal_the_reference(case):
    embeddings, _ = CASES[case](np.random.default_rng(3))
    similarities, indices = neighbors(embeddings, 5)
    unit = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-30)
    assert similarities.dtype == np.float32
    assert indices.dtype == np.int64
    assert (np.diff(similarities, axis=1) <= 0).all()
    for query in range(len(embeddings)):
        ranked = [i for group in reference_groups(embeddings, query) for i in group]
        assert indices[query].tolist() == ranked[:5]
        exact = unit[indices[query]] @ unit[query]
        np.testing.assert_allclose(similarities[query], exact, atol=2 * TIE)


def test_self_is_excluded_even_among_exact_copies():
    embeddings = np.repeat(np.eye(3, dtype=np.float32), 40, axis=0)
    similarities, indices = neighbors(embeddings, 4)
    assert (indices != np.arange(120)[:, None]).all()
    assert (similarities == 1).all()
    assert indices[0].tolist() == [1, 2, 3, 4]
    assert indices[119].tolist() == [80, 81, 82, 83]  # lowest copies, though far beyond the list


@pytest.mark.parametrize("value", [1.0, 0.0])
@pytest.mark.parametrize("order", ["sorted", "shuffled"])
def test_constant_embeddings_score_exactly_chance(value, order):
    labels = np.repeat(np.arange(20), 5)
    if order == "shuffled":
        labels = np.random.default_rng(0).permutation(labels)
    scores = recall_at_k(np.full((100, 16), value, dtype=np.float32), labels, KS)
    for k in KS:
        assert scores[f"recall@{k}"] == pytest.approx(1 - comb(95, k) / comb(99, k), abs=1e-12)


def test_collapse_with_float_noise_is_still_chance():
    """Differences that only rounding can make are not allowed to rank anything."""
    rng = np.random.default_rng(0)
    direction = rng.normal(size=32)
    labels = np.repeat(np.arange(20), 5)
    noisy = direction * rng.uniform(0.5, 2, size=(100, 1)) + labels[:, None] * 1e-8
    assert recall_at_k(noisy, labels, [1])["recall@1"] == pytest.approx(4 / 99)


def test_open_ties_are_seen_in_small_blocks(monkeypatch):
    """Many queries with a tie past the list, several blocks of full rows, several query chunks."""
    monkeypatch.setattr(neighbors_module, "_ROW_BUDGET", 400)
    monkeypatch.setattr(neighbors_module, "_QUERY_CHUNK", 17)
    rng = np.random.default_rng(1)
    labels = rng.integers(12, size=150)
    embeddings = np.repeat(rng.normal(size=(3, 5)), 50, axis=0)
    scores = recall_at_k(embeddings, labels, KS)
    for k in KS:
        assert scores[f"recall@{k}"] == pytest.approx(reference_recall(embeddings, labels, k))


@pytest.mark.parametrize("case", ["plain", "duplicates", "ties"])
def test_the_order_of_the_items_changes_nothing(case):
    rng = np.random.default_rng(5)
    embeddings, labels = CASES[case](rng)
    straight = recall_at_k(embeddings, labels, KS)
    for _ in range(3):
        order = rng.permutation(len(labels))
        shuffled = recall_at_k(embeddings[order], labels[order], KS)
        assert shuffled == pytest.approx(straight, abs=1e-12)


def test_scale_does_not_matter():
    embeddings, labels = clustered(np.random.default_rng(0), 50, 8)
    straight = recall_at_k(embeddings, labels, KS)
    for scale in (1e-30, 1e30):
        assert recall_at_k(embeddings * np.float32(scale), labels, KS) == pytest.approx(straight)


def test_k_beyond_the_gallery():
    embeddings, labels = clustered(np.random.default_rng(0), 10, 2)
    assert neighbors(embeddings, 99)[1].shape == (10, 9)
    scores = recall_at_k(embeddings, labels, [9, 10, 1000])
    assert scores["recall@9"] == scores["recall@10"] == scores["recall@1000"] == 1


def test_unanswerable_queries_are_counted_and_stay_in_the_gallery():
    #                    a pair whose nearest is the singleton, and the singleton
    embeddings = np.array([[1, 0], [0, 1], [1, 0.9]], dtype=np.float32)
    scores = recall_at_k(embeddings, np.array([0, 0, 1]), [1, 2])
    assert scores == {"recall@1": 0, "recall@2": 1, "queries": 2, "left_out": 1}


@pytest.mark.parametrize(
    ("embeddings", "labels", "ks", "says"),
    [
        (np.ones(4), np.zeros(4), [1], "shape"),
        (np.ones((0, 4)), np.zeros(0), [1], "shape"),
        (np.ones((1, 4)), np.zeros(1), [1], "at least 2"),
        (np.ones((3, 4)), np.zeros(2), [1], "one label per embedding"),
        (np.ones((3, 4)), np.zeros((3, 1)), [1], "one label per embedding"),
        (np.ones((3, 4)), np.arange(3), [1], "another of its class"),
        (np.ones((3, 4)), np.zeros(3), [0, 1], "at least 1"),
        (np.ones((3, 4)), np.zeros(3), [], "at least 1"),
        (np.diag([1, 1, np.nan]), np.zeros(3), [1], "row 2 holds NaN"),
        (np.diag([1, np.inf, np.nan]), np.zeros(3), [1], r"row 1 \(and 1 more\)"),
    ],
)
def test_bad_input_is_named(embeddings, labels, ks, says):
    with pytest.raises(UserError, match=says):
        recall_at_k(embeddings, labels, ks)


def test_neighbors_refuses_no_neighbors():
    with pytest.raises(UserError, match="k is 0"):
        neighbors(np.ones((3, 4)), 0)
