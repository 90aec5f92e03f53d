"""The angular loss: against a loop and against another library."""

import math

import pytest
import torch
from brute_force_losses import (
    assert_agree,
    embeddings,
    library,
    mean,
    objective,
    paired,
    relatives,
    unit,
)

from rhs.errors import UserError
from rhs.methods.batch import AnchorSimilarities
from rhs.methods.losses.angular import Angular
from rhs.methods.mining.pairs import PairMiner


def brute_force(x, labels, angle, scale):
    """Negatives of a pair are the positives of the pairs of other classes."""
    tan2 = math.tan(math.radians(angle)) ** 2
    values = []
    for a, p in (pairs := paired(labels)):
        own = 2 * (1 + tan2) * (x[a] * x[p]).sum()
        others = [q for b, q in pairs if labels[b] != labels[a]]
        f = [4 * tan2 * ((x[a] + x[p]) * x[q]).sum() - own for q in others]
        values.append((1 + sum((scale * one).exp() for one in f)).log())
    return mean(values)


def test_by_hand():
    """At 45 degrees f = 4 (a + p) . n - 4 a . p."""
    x = torch.tensor([[1, 0], [0.6, 0.8], [0, 1], [0.8, 0.6]]).double()
    f = [4 * (1.6 * 0.8 + 0.8 * 0.6) - 4 * 0.6, 4 * (0.8 * 0.6 + 1.6 * 0.8) - 4 * 0.6]
    loss = objective(Angular(), torch.tensor([0, 0, 1, 1]), PairMiner(both_ends=True))
    torch.testing.assert_close(loss(x).item(), sum(math.log(1 + math.exp(v)) for v in f) / 2)


@pytest.mark.parametrize(("angle", "scale"), [(45.0, 1.0), (36.0, 4.0), (55.0, 0.5)])
@pytest.mark.parametrize("normalize", [True, False])
def test_against_a_loop(normalize, angle, scale):
    x, labels = embeddings()
    mining = PairMiner(both_ends=True)
    ours = objective(Angular(angle, scale), labels, mining, normalize=normalize)
    assert_agree(ours, lambda x: brute_force(unit(x) if normalize else x, labels, angle, scale), x)


def test_agrees_with_pytorch_metric_learning_on_its_own_pairs():
    """It takes all pairs of a class in both orders, and all samples of other classes as negatives:
    rows of those are made here. It normalizes pairs but not negatives, so all are given as unit
    vectors."""
    x, labels = embeddings()
    theirs = library("losses").AngularLoss(40)
    a, p = torch.tensor([(i, j) for i in range(len(x)) for j in relatives(labels, i)]).T

    def ours(x):
        x = torch.nn.functional.normalize(x)
        positive = (x[a] * x[p]).sum(1, keepdim=True)
        different = labels[a][:, None] != labels[None, :]
        rows = AnchorSimilarities(
            positive,
            torch.ones_like(positive, dtype=torch.bool),
            (x[a] + x[p]) @ x.T,
            different,
            labels[a],
        )
        return Angular(40)(rows)

    assert_agree(ours, lambda x: theirs(torch.nn.functional.normalize(x), labels), x)


def test_a_larger_angle_is_a_higher_loss_for_a_negative_near_the_pair():
    x = torch.tensor([[1, 0.1], [1, -0.1], [0.9, 0], [0, 1]]).double()
    labels = torch.tensor([0, 0, 1, 1])
    losses = [
        objective(Angular(angle), labels, PairMiner(both_ends=True))(x[[0, 1, 3, 2]]).item()
        for angle in (36, 45, 55)
    ]
    assert losses == sorted(losses)
    assert losses[0] < losses[1] < losses[2]


@pytest.mark.parametrize("angle", [0, -45, 90, 120])
def test_an_angle_out_of_range(angle):
    with pytest.raises(UserError, match=r"loss\.angle is .*between 0 and 90"):
        Angular(angle)
