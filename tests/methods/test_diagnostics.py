"""The two numbers about a batch, against loops over pairs and against eigenvalues."""

import math

import pytest
import torch

from rhs.methods.diagnostics import ROWS, effective_rank, intra_inter_ratio, of_batch


def cloud(n: int = 24, dim: int = 5, classes: int = 6, noise: float = 0.5, seed: int = 0):
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (n,), generator=random)
    x = torch.randn(classes, dim, generator=random, dtype=torch.float64)[labels]
    return x + noise * torch.randn(n, dim, generator=random, dtype=torch.float64), labels


def ratio_of_pairs(x: list, labels: list) -> float:
    squared = {True: [], False: []}
    for i in range(len(x)):
        for j in range(i):
            apart = sum((a - b) ** 2 for a, b in zip(x[i], x[j], strict=True))
            squared[labels[i] == labels[j]].append(apart)
    within, between = squared[True], squared[False]
    return math.sqrt(sum(within) / len(within)) / math.sqrt(sum(between) / len(between))


@pytest.mark.parametrize("seed", range(5))
def test_the_ratio_against_a_loop_over_pairs(seed):
    x, labels = cloud(seed=seed)
    expected = ratio_of_pairs(x.tolist(), labels.tolist())
    torch.testing.assert_close(intra_inter_ratio(x, labels).item(), expected)
    far = (x + 1e4).float()  # a large common part costs no digits that it need not
    expected = ratio_of_pairs(far.double().tolist(), labels.tolist())
    torch.testing.assert_close(intra_inter_ratio(far, labels).item(), expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_collapsed_classes_have_a_ratio_of_nothing_and_shuffled_labels_of_one(dtype):
    x, labels = cloud(n=400, noise=0.0)
    assert intra_inter_ratio(x.to(dtype), labels) < 1e-3
    x, labels = cloud(n=400)
    assert intra_inter_ratio(x.to(dtype), labels) < 0.8
    shuffled = labels[torch.randperm(400, generator=torch.Generator().manual_seed(0))]
    torch.testing.assert_close(
        intra_inter_ratio(x.to(dtype), shuffled).item(), 1.0, rtol=0.03, atol=0
    )


def test_neither_turning_nor_moving_the_embedding_changes_anything():
    x, labels = cloud()
    turn, _ = torch.linalg.qr(cloud(n=5)[0])
    before = of_batch(x, labels)
    assert before.keys() == {"intra_inter_ratio", "effective_rank"}
    for name, value in of_batch(x @ turn + torch.arange(5), labels).items():
        torch.testing.assert_close(value, before[name])
    for name, value in of_batch(3 * x, labels).items():
        torch.testing.assert_close(value, before[name])


@pytest.mark.parametrize(("n", "dim"), [(24, 5), (4, 9), (2, 3), (ROWS, 4)])
def test_the_effective_rank_is_that_of_the_covariance_s_eigenvalues(n, dim):
    x, _ = cloud(n, dim)
    values = torch.linalg.eigvalsh(torch.cov(x.T))
    torch.testing.assert_close(effective_rank(x), values.sum() ** 2 / values.square().sum())


def test_of_a_large_batch_the_effective_rank_sees_evenly_spaced_rows():
    x, _ = cloud(n=3 * ROWS + 1, dim=4)
    torch.testing.assert_close(effective_rank(x), effective_rank(x[::4]))
    assert effective_rank(x) != effective_rank(x[::3])


def test_the_effective_rank_of_simple_clouds():
    both_ways = torch.cat([torch.eye(6), -torch.eye(6)]).double()  # as wide in all directions
    torch.testing.assert_close(effective_rank(both_ways).item(), 6.0)
    flat = torch.cat([both_ways[:2], both_ways[6:8]])
    torch.testing.assert_close(effective_rank(flat).item(), 2.0)
    line = torch.arange(7.0)[:, None] * torch.tensor([1.0, -2.0, 3.0]) + 5
    torch.testing.assert_close(effective_rank(line).item(), 1.0)
    torch.testing.assert_close(effective_rank(line[:2]).item(), 1.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [1, 2, 7, 24])
def test_a_point_has_no_rank_and_no_ratio(n, dtype):
    """Rounding of the mean is no direction in which the points differ."""
    for seed in range(4):
        x = cloud(n=1, dim=64, seed=seed)[0].to(dtype).repeat(n, 1)
        told = of_batch(x, torch.arange(n) // 2)
        assert told["effective_rank"] == 0
        assert told["intra_inter_ratio"] == 0
        of_zeros = of_batch(torch.zeros_like(x), torch.arange(n) // 2)
        assert all(value == 0 for value in of_zeros.values())


def test_batches_without_two_classes_or_without_pairs_have_no_ratio():
    x, _ = cloud()
    assert intra_inter_ratio(x, torch.full((24,), 3)) == 0
    assert intra_inter_ratio(x, torch.arange(24)) == 0
    assert intra_inter_ratio(x[:1], torch.tensor([3])) == 0


def test_diagnostics_have_no_gradient():
    x, labels = cloud()
    told = of_batch(x.requires_grad_(), labels)
    assert not any(value.requires_grad for value in told.values())
