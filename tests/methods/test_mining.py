"""Pairs: every sample once, within its class. Candidates: the hardest of all."""

import itertools

import pytest
import torch

from rhs.errors import UserError
from rhs.methods.mining import ROLES, PairMining, pair_up


def pairs_of(labels: list[int]) -> list[tuple[int, int]]:
    anchor, positive = pair_up(torch.tensor(labels))
    return list(zip(anchor.tolist(), positive.tolist(), strict=True))


@pytest.mark.parametrize("per_class", [2, 4, 6])
def test_a_balanced_batch_pairs_neighbors(per_class):
    labels = [k for k in (5, 2, 9) for _ in range(per_class)]
    expected = {(i, i + 1) for i in range(0, len(labels), 2)}
    assert set(pairs_of(labels)) == expected
    assert len(pairs_of(labels)) == len(expected)


def test_batch_order_within_the_class_decides_where_labels_are_mixed():
    assert set(pairs_of([3, 1, 3, 1, 3, 3])) == {(0, 2), (4, 5), (1, 3)}


def test_the_last_of_an_odd_class_is_paired_with_the_one_before_it():
    assert set(pairs_of([0, 0, 0])) == {(0, 1), (2, 1)}
    assert set(pairs_of([1, 0, 1, 0, 1, 0, 1, 1])) == {(0, 2), (4, 6), (7, 6), (1, 3), (5, 3)}


def test_a_sample_alone_in_its_class_has_no_pair():
    assert pairs_of([7]) == []
    assert pairs_of([1, 2, 3]) == []
    assert set(pairs_of([5, 1, 9, 1])) == {(1, 3)}
    assert pairs_of([]) == []


@pytest.mark.parametrize("seed", range(20))
def test_any_labels(seed):
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 8, (30,), generator=random).tolist()
    pairs = pairs_of(labels)
    assert all(labels[a] == labels[p] and a != p for a, p in pairs)
    used = [i for pair in pairs for i in pair]
    for label in set(labels):
        members = [i for i, other in enumerate(labels) if other == label]
        count = [used.count(i) for i in members]
        if len(members) == 1:
            assert count == [0]
        elif len(members) % 2 == 0:
            assert count == [1] * len(members)
        else:
            assert sorted(count) == [1] * (len(members) - 1) + [2]


@pytest.fixture
def points():
    random = torch.Generator().manual_seed(0)
    return {role: torch.randn(6, 4, generator=random) for role in ROLES}


def dots(points, row: str, column: str) -> torch.Tensor:
    return torch.tensor([[float(x @ y) for y in points[column]] for x in points[row]])


def test_originals(points):
    positive, negative = PairMining()(points)
    torch.testing.assert_close(negative, dots(points, "anchor", "positive"))
    torch.testing.assert_close(positive, dots(points, "anchor", "positive").diag())


def test_the_positive_is_the_less_similar_one(points):
    original = dots(points, "anchor", "positive").diag()
    synthetic = dots(points, "anchor", "synthetic_positive").diag()
    assert (original < synthetic).any()
    assert (original > synthetic).any()
    torch.testing.assert_close(PairMining("synthetic")(points)[0], synthetic)
    torch.testing.assert_close(
        PairMining("hardest")(points)[0], torch.stack([original, synthetic]).min(0).values
    )


def test_the_negative_is_the_most_similar_of_all_candidates(points):
    combinations = tuple(itertools.product(ROLES, ROLES))
    for chosen in (combinations[:1], combinations[3:7], combinations):
        every = torch.stack([dots(points, row, column) for row, column in chosen])
        torch.testing.assert_close(PairMining("original", chosen)(points)[1], every.max(0).values)


def test_settings_that_do_not_exist():
    with pytest.raises(UserError, match=r"'easiest'.*original, hardest, synthetic"):
        PairMining("easiest")
    with pytest.raises(UserError, match=r"'achor'.*anchor, positive"):
        PairMining(negatives=(("achor", "positive"),))
    with pytest.raises(UserError, match="no pair"):
        PairMining(negatives=())
