"""Retrieval scores by plain Python in float64, one query at a time, and data to compare them on."""

from __future__ import annotations

from math import comb

import numpy as np

from rhs.metrics.cosine import TIE, unit_rows
from rhs.metrics.retrieval import score

KS = (1, 2, 4, 8)

Groups = list[tuple[int, int, int]]  # (items surely before, right ones, wrong ones tied with them)


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


def almost_tied(rng: np.random.Generator) -> tuple:
    """Similarities that differ by a few 1e-7 to a few 1e-6, where only float64 tells on which side
    of a tie they are."""
    embeddings, labels = clustered(rng, 80, 8, dim=16)
    step = rng.uniform(1e-7, 4e-6, size=(80, 1))
    near = embeddings[rng.integers(10, size=80)] + step * rng.normal(size=(80, 16))
    return near.astype(np.float32), labels


CASES = {
    "plain": lambda rng: clustered(rng, 50, 8),
    "duplicates": with_duplicates,
    "ties": on_a_grid,  # also holds rows of zeros
    "almost tied": almost_tied,
    "singletons": with_singletons,
    "large classes": lambda rng: clustered(rng, 120, 2),
    "one class": lambda rng: (rng.normal(size=(12, 4)), np.zeros(12, dtype=int)),
    "two items": lambda rng: (rng.normal(size=(2, 4)), np.zeros(2, dtype=int)),
}


def groups_of(
    x_ND: np.ndarray, labels: np.ndarray, query: int, queries: np.ndarray | None = None
) -> Groups:
    """The tie groups of the relevant items of a query, nearest first."""
    unit = unit_rows(x_ND).astype(np.float64)
    similarity = unit @ unit[query]
    there = [i for i in range(len(labels)) if i != query and (queries is None or not queries[i])]
    right = sorted((similarity[i] for i in there if labels[i] == labels[query]), reverse=True)
    wrong = np.array([similarity[i] for i in there if labels[i] != labels[query]])
    groups: list[list[float]] = []
    for value in right:
        if not groups or value < groups[-1][0] - TIE:
            groups.append([])
        groups[-1].append(value)
    told, above, seen = [], np.inf, 0
    for group in groups:
        upper, lower = min(group[0] + TIE, above), group[0] - TIE
        surely, tied = (wrong > upper).sum(), ((lower < wrong) & (wrong <= upper)).sum()
        told.append((int(surely) + seen, len(group), int(tied)))
        above, seen = lower, seen + len(group)
    return told


def scores_of(groups: Groups, ks: tuple[int, ...]) -> dict[str, float]:
    """Expected scores of one query, place by place."""
    relevant = sum(right for _, right, _ in groups)
    before, right, wrong = groups[0]
    told = {}
    for k in ks:
        slots = min(max(k - before, 0), right + wrong)
        told[f"recall@{k}"] = 1 - comb(wrong, slots) / comb(right + wrong, slots)
    told["precision@1"] = right / (right + wrong) if before == 0 else 0.0
    r_precision, average, seen = 0.0, 0.0, 0
    for before, right, wrong in groups:
        tied = right + wrong
        for place in range(before + 1, min(before + tied, relevant) + 1):
            others = (place - before - 1) * (right - 1) / (tied - 1) if tied > 1 else 0.0
            r_precision += right / tied
            average += right / tied * (seen + 1 + others) / place
        seen += right
    return told | {"r_precision": r_precision / relevant, "map@r": average / relevant}


def reference(
    x_ND: np.ndarray, labels: np.ndarray, ks: tuple[int, ...], queries: np.ndarray | None = None
) -> dict[str, float]:
    """Mean scores over the queries that have a relevant item."""
    asking = range(len(labels)) if queries is None else np.flatnonzero(queries)
    every = [groups_of(x_ND, labels, int(query), queries) for query in asking]
    each = [scores_of(groups, ks) for groups in every if groups]
    return {name: float(np.mean([scores[name] for scores in each])) for name in each[0]}


def values(embeddings, labels, queries=None, ks=KS, **settings) -> dict[str, float]:
    """The scores under test, without intervals."""
    return score(embeddings, labels, ks, queries, draws=0, **settings).values
