"""The triplet loss: by hand, against a loop over all triples, and against another library."""

import math

import pytest
import torch
from brute_force_losses import (
    MEASURES,
    assert_agree,
    embeddings,
    library,
    lists,
    mean,
    objective,
    unit,
)

from rhs.errors import UserError
from rhs.methods.losses.triplet import Triplet
from rhs.methods.mining.batch import BatchMiner


def brute_force(x, labels, measure, margin, average="active"):
    values = []
    for positives, negatives in lists(x, labels, measure):
        for positive in positives:
            for negative in negatives:
                excess = negative - positive
                values.append(
                    (1 + excess.exp()).log() if margin is None else (excess + margin).clamp(min=0)
                )
    active = [value for value in values if value > 0]
    if margin is not None:
        assert 0 < len(active) < len(values)
    return mean(active if average == "active" else values)


def softplus(value: float) -> float:
    return math.log(1 + math.exp(value))


@pytest.mark.parametrize(
    ("margin", "average", "expected"),
    [
        (0.5, "active", 0.3),
        (0.5, "all", 0.15),
        (1.0, "active", (0.8 + 0.2) / 2),
        (None, "active", (softplus(-0.2) + softplus(-0.8)) / 2),
    ],
)
def test_by_hand(margin, average, expected):
    x = torch.tensor([[0, 0], [0.6, 0], [-0.8, 0]]).double()
    loss = objective(
        Triplet(margin, average), torch.tensor([0, 0, 1]), BatchMiner(), measure="euclidean"
    )
    torch.testing.assert_close(loss(x).item(), expected)


@pytest.mark.parametrize("average", ["active", "all"])
@pytest.mark.parametrize("margin", [0.2, 0.0, None])
@pytest.mark.parametrize("measure", MEASURES)
def test_against_a_loop(measure, margin, average):
    x, labels = embeddings()
    ours = objective(Triplet(margin, average), labels, BatchMiner(), measure=measure)
    assert_agree(ours, lambda x: brute_force(x, labels, measure, margin, average), x)


@pytest.mark.parametrize("measure", MEASURES)
def test_of_unit_vectors_against_a_loop(measure):
    x, labels = embeddings()
    ours = objective(Triplet(), labels, BatchMiner(), measure=measure, normalize=True)
    assert_agree(ours, lambda x: brute_force(unit(x), labels, measure, 0.2), x)


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("margin", [0.2, None])
def test_agrees_with_pytorch_metric_learning(margin, power):
    """Its smooth loss keeps the margin, ours has none."""
    x, labels = embeddings()
    distance = library("distances").LpDistance(normalize_embeddings=False, power=power)
    theirs = library("losses").TripletMarginLoss(
        margin or 0.0, smooth_loss=margin is None, distance=distance
    )
    measure = "euclidean" if power == 1 else "squared_euclidean"
    ours = objective(Triplet(margin), labels, BatchMiner(), measure=measure)
    assert_agree(ours, lambda x: theirs(x, labels), x)


def test_hardest_of_the_batch_agrees_with_a_loop():
    """[max d(a, p) - min d(a, n) + margin]_+ of the anchors that have both."""
    x, labels = embeddings()

    def loop(x):
        excess = [
            max(negatives) - min(positives) + 0.2
            for positives, negatives in lists(x, labels, "euclidean")
            if positives
        ]
        return mean([value for value in excess if value > 0])

    mining = BatchMiner("hardest", "hardest")
    assert_agree(objective(Triplet(), labels, mining, measure="euclidean"), loop, x)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"average": "some"}, r"loss\.average is 'some'"),
        ({"margin": -0.1}, r"loss\.margin is -0\.1"),
        ({"margin": math.inf}, r"loss\.margin is inf"),
    ],
)
def test_settings_that_do_not_exist(settings, message):
    with pytest.raises(UserError, match=message):
        Triplet(**settings)
