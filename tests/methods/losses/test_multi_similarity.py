"""The multi-similarity loss: against a loop and against another library."""

import math

import pytest
import torch
from brute_force_losses import assert_agree, embeddings, library, lists, mean, objective, unit

from rhs.errors import UserError
from rhs.methods.losses.multi_similarity import MultiSimilarity
from rhs.methods.mining.batch import BatchMiner

ALPHA, BETA, BASE = 2.0, 10.0, 0.4


def brute_force(rows, margin):
    values, left_out = [], 0
    for positives, negatives in rows:
        kept, near = positives, negatives
        if margin is not None:
            kept = [s for s in positives if s < max(negatives) + margin]
            near = [s for s in negatives if positives and s > min(positives) - margin]
            left_out += len(positives) + len(negatives) - len(kept) - len(near)
        pulled = sum((-ALPHA * (s - BASE)).exp() for s in kept) + torch.zeros(())
        pushed = sum((BETA * (s - BASE)).exp() for s in near) + torch.zeros(())
        values.append((1 + pulled).log() / ALPHA + (1 + pushed).log() / BETA)
    assert margin is None or left_out
    return mean(values)


def test_by_hand():
    x = torch.tensor([[1, 0], [0.6, 0.8], [0, 1]]).double()
    loss = objective(MultiSimilarity(2.0, 10.0, 0.5, None), torch.tensor([0, 0, 1]), BatchMiner())
    pulled = 2 * math.log(1 + math.exp(-2 * 0.1)) / 2  # of both samples of class 0
    near, far = math.exp(10 * 0.3), math.exp(-10 * 0.5)
    pushed = (math.log(1 + far) + math.log(1 + near) + math.log(1 + near + far)) / 10
    torch.testing.assert_close(loss(x).item(), (pulled + pushed) / 3)


@pytest.mark.parametrize("margin", [None, 0.1, 0.0, -0.3])
@pytest.mark.parametrize("normalize", [True, False])
def test_against_a_loop(normalize, margin):
    x, labels = embeddings()
    loss = MultiSimilarity(ALPHA, BETA, BASE, margin)

    def loop(x):
        return brute_force(lists(unit(x) if normalize else x, labels, "dot"), margin)

    assert_agree(objective(loss, labels, BatchMiner(), normalize=normalize), loop, x)


@pytest.mark.parametrize("margin", [None, 0.1, -0.2])
def test_agrees_with_pytorch_metric_learning(margin):
    x, labels = embeddings()
    theirs = library("losses").MultiSimilarityLoss(ALPHA, BETA, BASE)
    miner = library("miners").MultiSimilarityMiner
    chosen = None if margin is None else miner(margin)(x, labels)
    ours = objective(
        MultiSimilarity(ALPHA, BETA, BASE, margin), labels, BatchMiner(), normalize=True
    )
    assert_agree(ours, lambda x: theirs(x, labels, chosen), x)


def test_the_defaults_are_those_of_pytorch_metric_learning():
    x, labels = embeddings()
    theirs, miner = (
        library("losses").MultiSimilarityLoss(),
        library("miners").MultiSimilarityMiner(),
    )
    chosen = miner(x, labels)
    ours = objective(MultiSimilarity(), labels, BatchMiner(), normalize=True)
    assert_agree(ours, lambda x: theirs(x, labels, chosen), x)


def test_it_is_the_mean_over_the_positives_where_each_has_its_own_negative():
    """However unequal the classes: 96 positives here, of which 90 are of one class."""
    x, labels = embeddings(sizes=(2, 2, 2, 10))
    mining = BatchMiner("all", "semi_hard")

    def loop(x):
        rows = []
        for positives, negatives in lists(x, labels, "dot"):
            for own in positives:
                farther = [s for s in negatives if s < own]
                rows.append(([own], [max(farther) if farther else min(negatives)]))
        assert len(rows) == 96
        return brute_force(rows, 0.1)

    assert_agree(objective(MultiSimilarity(ALPHA, BETA, BASE, 0.1), labels, mining), loop, x)


def test_anchors_that_keep_no_pair_count_as_zero():
    """Two tight classes far apart: mining keeps nothing."""
    x = torch.tensor([[1, 0], [1, 0], [-1, 0], [-1, 0]]).double().requires_grad_()
    loss = objective(MultiSimilarity(), torch.tensor([0, 0, 1, 1]), BatchMiner())(x)
    assert loss == 0
    assert (torch.autograd.grad(loss, x)[0] == 0).all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"alpha": 0}, r"loss\.alpha is 0; it must be a number above 0\."),
        ({"beta": -1}, r"loss\.beta is -1; it must be a number above 0\."),
        ({"margin": "x"}, r"loss\.margin is 'x'; it must be a number\."),
    ],
)
def test_settings_that_do_not_exist(wrong, message):
    with pytest.raises(UserError, match=message):
        MultiSimilarity(**wrong)
