"""Which samples share a class: disjoint pairs, all others of the class, and points of the class."""

import pytest
import torch
from brute_force_losses import paired, relatives

from rhs.methods.mining.class_indices import members, pair_up, same_class


def pairs_of(labels: list[int]) -> list[tuple[int, int]]:
    anchor, positive = pair_up(torch.tensor(labels))
    return list(zip(anchor.tolist(), positive.tolist(), strict=True))


def some_labels(seed: int, count: int = 30) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randint(0, 8, (count,), generator=random) * 3 - 5


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
def test_pairs_of_any_labels(seed):
    labels = some_labels(seed)
    pairs = pairs_of(labels.tolist())
    assert sorted(pairs) == sorted(paired(labels))
    used = [i for pair in pairs for i in pair]
    for label in labels.unique():
        own = (labels == label).nonzero()[:, 0].tolist()
        count = sorted(used.count(i) for i in own)
        odd = len(own) % 2 == 1
        assert count == ([0] if len(own) == 1 else [1] * (len(own) - odd) + [2] * odd)


@pytest.mark.parametrize("seed", range(10))
def test_the_others_of_a_class(seed):
    labels = some_labels(seed)
    index, valid = same_class(labels)
    for i in range(len(labels)):
        assert sorted(index[i][valid[i]].tolist()) == relatives(labels, i)
    assert index.shape == valid.shape == (30, max(labels.unique(return_counts=True)[1]) - 1)
    assert ((index >= 0) & (index < 30)).all()  # also where they do not count


@pytest.mark.parametrize("labels", [[4], [1, 2, 3], []])
def test_where_every_sample_is_alone_there_is_one_column_that_does_not_count(labels):
    index, valid = same_class(torch.tensor(labels, dtype=torch.long))
    assert index.shape == valid.shape == (len(labels), 1)
    assert not valid.any()


@pytest.mark.parametrize("seed", range(10))
def test_points_of_the_own_class(seed):
    labels, of_points = some_labels(seed), some_labels(100 + seed, count=11)
    index, valid = members(of_points, labels)
    for i, label in enumerate(labels):
        expected = [m for m in range(11) if of_points[m] == label]
        assert sorted(index[i][valid[i]].tolist()) == expected
    assert ((index >= 0) & (index < 11)).all()


def test_no_point_of_any_class_in_the_batch():
    index, valid = members(torch.tensor([7, 8]), torch.tensor([1, 9, 2]))
    assert index.shape == valid.shape == (3, 1)
    assert not valid.any()
