"""The softmax over class signatures: against a loop, another library, and with sampled classes."""

import math

import pytest
import torch
from brute_force_losses import DIM, assert_agree, embeddings, library, mean, objective, unit

from rhs.errors import UserError
from rhs.methods.losses.normalized_softmax import NormalizedSoftmax

CLASSES = 9  # of which the batch has 6


def softmax(scale: float = 5.0, sampled: int | None = None) -> NormalizedSoftmax:
    torch.manual_seed(0)
    loss = NormalizedSoftmax(scale, sampled)
    loss.prepare(CLASSES, DIM)
    with torch.no_grad():
        loss.signatures.weight *= torch.linspace(0.5, 2, CLASSES)[:, None]  # of any length
    return loss.double()


def brute_force(x, labels, weight, scale, classes):
    x, weight = unit(x), unit(weight)
    values = []
    for i, label in enumerate(labels):
        terms = {c: (scale * (x[i] * weight[c]).sum()).exp() for c in classes}
        values.append(-(terms[int(label)] / sum(terms.values())).log())
    return mean(values)


@pytest.mark.parametrize("normalize", [True, False])
def test_against_a_loop(normalize):
    x, labels = embeddings()
    loss = softmax()
    weight = loss.signatures.weight.detach().clone().requires_grad_()

    def loop(x):
        return brute_force(x, labels, weight, 5.0, range(CLASSES))

    ours = objective(loss, labels, normalize=normalize)
    assert_agree(ours, loop, x)
    ours(x).backward()
    loop(x).backward()
    torch.testing.assert_close(loss.signatures.weight.grad, weight.grad)
    assert weight.grad.abs().min() > 0


def test_agrees_with_pytorch_metric_learning():
    x, labels = embeddings()
    ours = softmax()
    theirs = library("losses").NormalizedSoftmaxLoss(CLASSES, DIM, temperature=1 / 5)
    theirs.W.data = ours.signatures.weight.detach().T.clone()
    assert_agree(objective(ours, labels), lambda x: theirs(x, labels), x)
    ours(x, labels).backward()
    theirs(x, labels).backward()
    torch.testing.assert_close(ours.signatures.weight.grad, theirs.W.grad.T)


def test_with_no_other_classes_only_those_of_the_batch_are_compared_with():
    x, labels = embeddings(sizes=(3, 2, 2))
    labels = torch.tensor([7, 2, 5])[labels]
    loss = softmax(sampled=0)
    weight = loss.signatures.weight.detach()
    assert_agree(
        objective(loss, labels), lambda x: brute_force(x, labels, weight, 5.0, (2, 5, 7)), x
    )


def test_only_the_rows_of_sampled_classes_have_gradients():
    x, labels = embeddings(sizes=(3, 2))
    loss = softmax(sampled=2)
    seen = set()
    for seed in range(30):
        torch.manual_seed(seed)
        loss.zero_grad()
        loss(x, labels).backward()
        slope = loss.signatures.weight.grad
        assert slope.is_sparse
        rows = set(slope.coalesce().indices()[0].tolist())
        assert {0, 1} <= rows
        assert len(rows) <= 4
        seen |= rows
    assert seen == set(range(CLASSES))


def test_more_classes_are_a_higher_loss_and_all_of_them_the_full_one():
    x, labels = embeddings()
    none, some, every, full = (softmax(sampled=n)(x, labels) for n in (0, 2, 1000, None))
    assert none < some <= every
    torch.testing.assert_close(every, full)


def test_the_same_seed_samples_the_same_classes():
    x, labels = embeddings(sizes=(3, 2))
    loss = softmax(sampled=2)
    values = []
    for seed in (0, 0, 1, 2):
        torch.manual_seed(seed)
        values.append(loss(x, labels).item())
    assert values[0] == values[1]
    assert len(set(values)) > 1


def test_the_least_value_at_scale_one():
    """log(1 + (C - 1) e^-2) with the others' signatures opposite."""
    loss = NormalizedSoftmax(1.0)
    loss.prepare(3, 2)
    loss.signatures.weight.data = torch.tensor([[2.0, 0], [-1, 0], [-3, 0]])
    value = loss(torch.tensor([[5.0, 0]]), torch.tensor([0]))
    torch.testing.assert_close(value.item(), math.log(1 + 2 * math.exp(-2)))


def test_signatures_start_on_the_unit_sphere_and_are_read_there():
    loss = NormalizedSoftmax()
    loss.prepare(CLASSES, DIM)
    torch.testing.assert_close(loss.signatures.weight.norm(dim=1), torch.ones(CLASSES))
    labels = torch.tensor([4, 0, 4])
    loss.signatures.weight.data *= 3
    torch.testing.assert_close(loss.of(labels), loss.signatures.weight[labels] / 3)


def test_a_negative_number_of_classes_is_a_sentence():
    with pytest.raises(
        UserError, match=r"sampled of the softmax is -1; .* whole number at least 0"
    ):
        NormalizedSoftmax(sampled=-1)
