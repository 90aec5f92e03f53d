"""The contrastive loss: by hand, against a loop, and against another library."""

import pytest
import torch
from brute_force_losses import assert_agree, embeddings, library, lists, mean, objective, unit

from rhs.errors import UserError
from rhs.methods.losses.contrastive import Contrastive
from rhs.methods.mining.batch import BatchMiner


def brute_force(x, labels, measure, margin, positive_margin, squared):
    kinds: tuple[list, list] = ([], [])
    for positives, negatives in lists(x, labels, measure):
        if measure == "dot":
            kinds[0].extend(positive_margin - s for s in positives)
            kinds[1].extend(s - margin for s in negatives)
        else:
            kinds[0].extend(-s - positive_margin for s in positives)
            kinds[1].extend(margin + s for s in negatives)
    total = 0.0
    for kind in kinds:
        active = [excess for excess in kind if excess > 0]
        assert active
        total += mean([excess**2 / 2 if squared else excess for excess in active])
    return total


@pytest.mark.parametrize(("squared", "expected"), [(True, 0.18 + 0.02), (False, 0.6 + 0.2)])
def test_by_hand(squared, expected):
    x = torch.tensor([[0, 0], [0.6, 0], [-0.8, 0]]).double()
    loss = objective(
        Contrastive(squared=squared), torch.tensor([0, 0, 1]), BatchMiner(), measure="euclidean"
    )
    torch.testing.assert_close(loss(x).item(), expected)


@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize(
    ("measure", "margin", "positive_margin"),
    [("euclidean", 1.5, 0.0), ("euclidean", 1.3, 0.8), ("dot", 0.1, 0.8)],
)
def test_against_a_loop(measure, margin, positive_margin, squared):
    x, labels = embeddings()
    settings = (margin, positive_margin, squared)
    ours = objective(Contrastive(*settings), labels, BatchMiner(), measure=measure)
    assert_agree(ours, lambda x: brute_force(x, labels, measure, *settings), x)


def test_of_unit_vectors_against_a_loop():
    x, labels = embeddings()
    ours = objective(Contrastive(0.3, 0.8), labels, BatchMiner(), normalize=True)
    assert_agree(ours, lambda x: brute_force(unit(x), labels, "dot", 0.3, 0.8, True), x)


@pytest.mark.parametrize("measure", ["euclidean", "dot"])
def test_agrees_with_pytorch_metric_learning_which_does_not_square(measure):
    x, labels = embeddings()
    name = "LpDistance" if measure == "euclidean" else "CosineSimilarity"
    distance = getattr(library("distances"), name)()
    near, far = (0.2, 1.2) if measure == "euclidean" else (0.8, 0.3)
    theirs = library("losses").ContrastiveLoss(near, far, distance=distance)
    ours = objective(
        Contrastive(far, near, squared=False), labels, BatchMiner(), measure=measure, normalize=True
    )
    assert_agree(ours, lambda x: theirs(x, labels), x, rtol=1e-6, atol=1e-8)


def test_pairs_that_are_near_or_far_enough_have_no_gradient():
    x = torch.tensor([[0, 0], [0.1, 0], [3, 0]]).double().requires_grad_()
    loss = objective(
        Contrastive(1.0, 0.5), torch.tensor([0, 0, 1]), BatchMiner(), measure="euclidean"
    )(x)
    assert loss == 0
    loss.backward()
    assert (x.grad == 0).all()


def test_a_text_for_a_margin_is_a_sentence():
    with pytest.raises(UserError, match=r"loss\.margin is 'wide'; it must be a number"):
        Contrastive("wide")
