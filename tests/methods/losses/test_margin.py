"""The margin loss: golden values, against a loop, and against another library."""

import pytest
import torch
from brute_force_losses import (
    DIM,
    assert_agree,
    embeddings,
    library,
    lists,
    objective,
    relatives,
    strangers,
)

from rhs.methods.batch import AnchorSimilarities
from rhs.methods.losses.margin import Margin
from rhs.methods.mining.batch import BatchMiner


def brute_force(rows, betas, alpha, nu=0.0):
    """`betas`: the boundary of each anchor."""
    total, count = 0.0, 0
    for (positives, negatives), beta in zip(rows, betas, strict=True):
        excess = [-s - beta + alpha for s in positives] + [beta + s + alpha for s in negatives]
        active = [value for value in excess if value > 0]
        assert len(active) < len(excess)
        total, count = total + sum(active) + nu * beta * len(active), count + len(active)
    return total / count


def one_row(positive: float, negative: float, masks: tuple[bool, bool]) -> AnchorSimilarities:
    values = [torch.tensor([[-d]]).double() for d in (positive, negative)]
    there = [torch.tensor([[mask]]) for mask in masks]
    return AnchorSimilarities(
        values[0], there[0], values[1], there[1], torch.zeros(1, dtype=torch.long)
    )


@pytest.mark.parametrize("masks", [(True, False), (False, True), (True, True)])
def test_golden_values(masks):
    """A positive at 1.3 and a negative at 1.1 lose 0.3 each."""
    torch.testing.assert_close(Margin(0.2, 1.2)(one_row(1.3, 1.1, masks)).item(), 0.3)


def test_pairs_beyond_the_band_add_nothing_and_do_not_count():
    assert Margin(0.2, 1.2)(one_row(0.9, 1.5, (True, True))) == 0
    torch.testing.assert_close(Margin(0.2, 1.2)(one_row(1.3, 1.5, (True, True))).item(), 0.3)


@pytest.mark.parametrize("nu", [0.0, 0.3])
@pytest.mark.parametrize(("measure", "beta"), [("euclidean", 1.2), ("squared_euclidean", 1.6)])
def test_against_a_loop(measure, beta, nu):
    x, labels = embeddings()
    loss = Margin(0.25, beta, regularization=nu).double()
    ours = objective(loss, labels, BatchMiner(), measure=measure)
    reference = torch.tensor(beta).double().requires_grad_()

    def loop(x):
        return brute_force(lists(x, labels, measure), [reference] * len(x), 0.25, nu)

    assert_agree(ours, loop, x)
    _check_slope(ours, loop, x, loss.beta, reference)


def test_boundaries_of_classes_against_a_loop():
    x, labels = embeddings()
    loss = Margin(0.25, per_class=True, regularization=0.1).double()
    loss.prepare(8, DIM)
    assert (loss.offset.weight == 0).all()
    with torch.no_grad():
        loss.offset.weight += 0.3 * torch.linspace(-1, 1, 8)[:, None]
    loss.double()
    reference = loss.offset.weight.detach().clone().requires_grad_()

    def loop(x):
        betas = [1.2 + reference[label, 0] for label in labels]
        return brute_force(lists(x, labels, "euclidean"), betas, 0.25, 0.1)

    ours = objective(loss, labels, BatchMiner(), measure="euclidean")
    with torch.no_grad():
        loss.beta.fill_(1.2)  # to float64's digits
    assert_agree(ours, loop, x)
    ours(x).backward()
    loop(x).backward()
    slope = loss.offset.weight.grad
    assert slope.is_sparse
    assert set(slope.coalesce().indices()[0].tolist()) == set(labels.tolist())  # 6 of the 8
    torch.testing.assert_close(slope.to_dense(), reference.grad)
    torch.testing.assert_close(loss.beta.grad, reference.grad.sum())


def _check_slope(ours, loop, x, parameter, reference) -> None:
    ours(x).backward()
    loop(x).backward()
    torch.testing.assert_close(parameter.grad, reference.grad)
    assert reference.grad != 0


@pytest.mark.parametrize("nu", [0.0, 0.1])
def test_agrees_with_pytorch_metric_learning_on_one_positive_and_one_negative_each(nu):
    """It counts triples: a positive once for each negative, a negative once for each positive."""
    x, labels = embeddings(sizes=(5, 4, 3, 2))
    gap = torch.cdist(x, x)
    chosen = [
        (
            i,
            min(relatives(labels, i), key=lambda j: gap[i, j]),
            min(strangers(labels, i), key=lambda j: gap[i, j]),
        )
        for i in range(len(x))
    ]
    distance = library("distances").LpDistance(normalize_embeddings=False)
    theirs = library("losses").MarginLoss(0.25, nu, 1.1, learn_beta=True, distance=distance)
    triples = tuple(torch.tensor(chosen).T)
    loss = Margin(0.25, 1.1, regularization=nu)
    ours = objective(loss, labels, BatchMiner("easy", "hardest"), measure="euclidean")
    assert_agree(ours, lambda x: theirs(x, labels, triples), x, rtol=1e-6, atol=1e-7)
    ours(x).backward()
    theirs(x, labels, triples).backward()
    torch.testing.assert_close(loss.beta.grad, theirs.beta.grad[0])
