"""Retrieval scores against plain Python in float64."""

from __future__ import annotations

from itertools import permutations
from math import comb

import numpy as np
import pytest
import torch
from brute_force_losses import library
from retrieved import CASES, KS, clustered, groups_of, reference, scores_of, values, with_duplicates

from rhs.errors import UserError
from rhs.metrics.retrieval import bootstrap, score


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("seed", range(3))
def test_scores_equal_the_reference(case, seed):
    embeddings, labels = CASES[case](np.random.default_rng(seed))
    assert values(embeddings, labels) == pytest.approx(reference(embeddings, labels, KS), abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("copies", [False, True])
def test_queries_against_a_gallery(seed, copies):
    rng = np.random.default_rng(seed)
    embeddings, labels = with_duplicates(rng) if copies else clustered(rng, 90, 12, dim=4)
    queries = rng.random(len(labels)) < 0.4
    queries[labels == 3] = True  # a class that the gallery has not
    queries[labels == 4] = False  # and one that nobody asks for
    scores = score(embeddings, labels, (1, 5, 40), queries, draws=0)
    expected = reference(embeddings, labels, (1, 5, 40), queries)
    assert scores.values == pytest.approx(expected, abs=1e-12)
    assert scores.left_out >= (labels == 3).sum() > 0
    assert scores.queries == queries.sum() - scores.left_out


def test_expectations_are_means_over_all_orders_of_a_tie():
    """Two right and three wrong ones tied, behind one right and one wrong item."""
    groups = [(1, 1, 0), (2, 2, 3)]
    totals: dict[str, list[float]] = {}
    for tied in permutations([1, 1, 0, 0, 0]):
        for name, value in of_list([0, 1, *tied], relevant=3).items():
            totals.setdefault(name, []).append(value)
    assert scores_of(groups, KS) == pytest.approx({k: np.mean(v) for k, v in totals.items()})


def of_list(hits: list[int], relevant: int) -> dict[str, float]:
    """Scores of one ranked list by their definitions."""
    told = {f"recall@{k}": float(any(hits[:k])) for k in KS} | {"precision@1": float(hits[0])}
    precise = [sum(hits[: i + 1]) / (i + 1) for i in range(relevant)]
    average = sum(p for p, hit in zip(precise, hits, strict=False) if hit) / relevant
    return told | {"r_precision": sum(hits[:relevant]) / relevant, "map@r": average}


def test_the_published_example_of_map_at_r():
    told = of_list([1, 0, 1], relevant=3)
    assert told["r_precision"] == pytest.approx(2 / 3)
    assert told["map@r"] == pytest.approx((1 + 2 / 3) / 3)
    angles = (
        np.array([0, 1, 2, 3, 50]) * 0.01
    )  # the query, then right, wrong, right, and far: right
    embeddings = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    labels = np.array([0, 0, 1, 0, 0])
    assert scores_of(groups_of(embeddings, labels, 0), KS) == pytest.approx(told)
    queries = np.array([True, False, False, False, False])
    assert values(embeddings, labels, queries) == pytest.approx(told)


def test_the_calculator_of_pytorch_metric_learning_agrees():
    calculator = library("utils.accuracy_calculator").AccuracyCalculator(
        include=("precision_at_1", "r_precision", "mean_average_precision_at_r"),
        k="max_bin_count",
        device=torch.device("cpu"),
    )
    embeddings, labels = clustered(np.random.default_rng(0), 400, 30)
    labels[:3] = [100, 101, 102]  # cannot be answered: both leave them out
    unit = torch.nn.functional.normalize(torch.from_numpy(embeddings))
    theirs = calculator.get_accuracy(unit, torch.from_numpy(labels))
    ours = values(embeddings, labels)
    assert ours["precision@1"] == pytest.approx(theirs["precision_at_1"], abs=1e-6)
    assert ours["r_precision"] == pytest.approx(theirs["r_precision"], abs=1e-6)
    assert ours["map@r"] == pytest.approx(theirs["mean_average_precision_at_r"], abs=1e-6)


@pytest.mark.parametrize("value", [1.0, 0.0])
@pytest.mark.parametrize("order", ["sorted", "shuffled"])
def test_constant_embeddings_score_exactly_chance(value, order):
    labels = np.repeat(np.arange(20), 5)
    if order == "shuffled":
        labels = np.random.default_rng(0).permutation(labels)
    told = values(np.full((100, 16), value, dtype=np.float32), labels)
    for k in KS:
        assert told[f"recall@{k}"] == pytest.approx(1 - comb(95, k) / comb(99, k), abs=1e-12)
    assert told["r_precision"] == pytest.approx(4 / 99)


def test_collapse_with_float_noise_is_still_chance():
    """Differences that only rounding can make are not allowed to rank anything."""
    rng = np.random.default_rng(0)
    direction = rng.normal(size=32)
    labels = np.repeat(np.arange(20), 5)
    noisy = direction * rng.uniform(0.5, 2, size=(100, 1)) + labels[:, None] * 1e-8
    assert values(noisy, labels)["recall@1"] == pytest.approx(4 / 99)


@pytest.mark.parametrize("case", ["plain", "duplicates", "ties", "almost tied"])
def test_the_order_of_the_items_changes_nothing(case):
    rng = np.random.default_rng(5)
    embeddings, labels = CASES[case](rng)
    straight = values(embeddings, labels)
    for _ in range(3):
        order = rng.permutation(len(labels))
        assert values(embeddings[order], labels[order]) == pytest.approx(straight, abs=1e-12)


def test_scale_does_not_matter():
    embeddings, labels = clustered(np.random.default_rng(0), 50, 8)
    straight = values(embeddings, labels)
    for scale in (1e-30, 1e30):
        assert values(embeddings * np.float32(scale), labels) == pytest.approx(straight)


def test_k_beyond_the_gallery():
    embeddings, labels = clustered(np.random.default_rng(0), 10, 2)
    told = values(embeddings, labels, ks=[9, 10, 1000])
    assert told["recall@9"] == told["recall@10"] == told["recall@1000"] == 1


def test_unanswerable_queries_are_counted_and_stay_in_the_gallery():
    #                    a pair whose nearest is the singleton, and the singleton
    embeddings = np.array([[1, 0], [0, 1], [1, 0.9]], dtype=np.float32)
    scores = score(embeddings, np.array([0, 0, 1]), [1, 2])
    assert (scores.values["recall@1"], scores.values["recall@2"]) == (0, 1)
    assert (scores.queries, scores.left_out) == (2, 1)


def test_the_interval_is_over_classes():
    """Of 40 classes half are always right: the mean of n draws has deviation sqrt(p q / n). Ten
    equal queries in a class are no more evidence than one."""
    labels = np.repeat(np.arange(40), 10)
    right = (labels % 2)[:, None].astype(float)
    ((low, high),) = bootstrap(right, labels, draws=4000)
    assert (low, high) == pytest.approx((0.5 - 1.96 * 0.079, 0.5 + 1.96 * 0.079), abs=0.02)
    assert bootstrap(right, labels, draws=300, seed=1) == bootstrap(
        right, labels, draws=300, seed=1
    )
    assert bootstrap(right, labels, draws=300, seed=1) != bootstrap(
        right, labels, draws=300, seed=2
    )


def test_intervals_hold_the_values():
    embeddings, labels = clustered(np.random.default_rng(0), 300, 30)
    scores = score(embeddings, labels, KS)
    assert scores.intervals.keys() == scores.values.keys()
    for name, (low, high) in scores.intervals.items():
        assert 0 <= low < scores.values[name] < high <= 1
    assert score(embeddings, labels, KS, draws=0).intervals == {}


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
        score(embeddings, labels, ks)


@pytest.mark.parametrize(
    ("queries", "says"),
    [
        (
            np.array([1, 0, 0, 1]),
            "shape .4,. and type int64; one bool for each of the 4 embeddings",
        ),
        (np.array([True, False]), "shape .2,. and type bool"),
        (np.ones(4, dtype=bool), "All 4 items are queries"),
    ],
)
def test_queries_that_are_no_mask(queries, says):
    with pytest.raises(UserError, match=says):
        score(np.eye(4), np.array([0, 0, 1, 1]), [1], queries)


def test_no_query_with_an_answer():
    labels = np.array([0, 0, 1, 1])
    with pytest.raises(UserError, match=r"None of the 2 queries has .* the 2 of the gallery"):
        score(np.eye(4), labels, [1], labels == 0)
    with pytest.raises(UserError, match="None of the 4 items is a query"):
        score(np.eye(4), labels, [1], labels == 7)
