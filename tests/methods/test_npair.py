"""The N-pair loss: published forms, golden values, and a loop in plain Python."""

import math

import pytest
import torch
from tiny import method_config

from rhs.methods.geometry import reflect
from rhs.methods.losses.npair import NPair
from rhs.methods.mining import PairMining
from rhs.methods.objective import Objective

A = torch.tensor([[1, 0], [0, 1], [1, 1]]).double()
P = torch.tensor([[0.8, 0.2], [0.1, 0.9], [1.2, 0.7]]).double()


def brute_force(positive: list, negative: list, labels: list) -> float:
    total = 0.0
    for i, own in enumerate(positive):
        others = [negative[i][j] for j in range(len(labels)) if labels[j] != labels[i]]
        total += math.log(1 + sum(math.exp(other - own) for other in others))
    return total / len(labels)


def test_golden_multi_class():
    loss = NPair()((A * P).sum(1), A @ P.T, torch.arange(3))
    torch.testing.assert_close(loss.item(), 0.8431158, rtol=0, atol=5e-8)


def test_golden_symmetrical_synthesis():
    points = {"anchor": A, "positive": P, "synthetic_positive": reflect(P, A),
              "synthetic_anchor": reflect(A, P)}  # fmt: skip
    combinations = method_config("symm_npair")["mining"]["negatives"]
    assert len(combinations) == 6
    _, negative = PairMining("original", combinations)(points)
    # the released code takes the diagonal's maximum too
    loss = NPair()(negative.diag(), negative, torch.arange(3))
    torch.testing.assert_close(loss.item(), 0.9990205, rtol=0, atol=5e-8)


def test_golden_regularizer():
    x = torch.stack([A, P], dim=1).reshape(6, 2)
    labels = torch.arange(3).repeat_interleave(2)
    plain, regular = (
        Objective(NPair(), PairMining(), normalize=False, l2=l2)(x, labels)[0] for l2 in (0, 0.002)
    )
    torch.testing.assert_close(plain.item(), 0.8431158, rtol=0, atol=5e-8)
    torch.testing.assert_close((regular - plain).item(), 0.00123833, rtol=0, atol=5e-9)


@pytest.mark.parametrize(
    "labels", [[0, 1, 2, 3], [0, 0, 1, 1, 2, 2], [3, 1, 3, 0, 1, 3, 2], [5, 5, 5]]
)
def test_against_a_loop(labels):
    random = torch.Generator().manual_seed(0)
    positive = 3 * torch.randn(len(labels), generator=random).double()
    negative = 3 * torch.randn(len(labels), len(labels), generator=random).double()
    loss = NPair()(positive, negative, torch.tensor(labels))
    expected = brute_force(positive.tolist(), negative.tolist(), labels)
    torch.testing.assert_close(loss.item(), expected, rtol=1e-12, atol=1e-12)


def test_slopes():
    random = torch.Generator().manual_seed(0)
    positive = torch.randn(5, generator=random).double().requires_grad_()
    negative = torch.randn(5, 5, generator=random).double().requires_grad_()
    labels = torch.tensor([0, 0, 1, 2, 3])
    assert torch.autograd.gradcheck(lambda p, n: NPair()(p, n, labels), (positive, negative))
    NPair()(positive, negative, labels).backward()
    same = labels[:, None] == labels[None]
    assert (negative.grad[same] == 0).all()
    assert (negative.grad[~same] > 0).all()
    assert (positive.grad < 0).all()


def test_large_similarities_do_not_overflow():
    positive = torch.tensor([0.0, 500.0]).requires_grad_()
    negative = torch.tensor([[0.0, 1000.0], [-1000.0, 0.0]])
    loss = NPair()(positive, negative, torch.tensor([0, 1]))
    torch.testing.assert_close(loss.item(), 500.0)
    loss.backward()
    assert torch.isfinite(positive.grad).all()


def test_a_class_without_others_adds_nothing():
    positive = torch.tensor([0.3, -0.2]).requires_grad_()
    negative = torch.randn(2, 2).requires_grad_()
    loss = NPair()(positive, negative, torch.tensor([4, 4]))
    assert loss.item() == 0
    loss.backward()
    assert (positive.grad == 0).all()
    assert (negative.grad == 0).all()
