"""The log-ratio loss of continuous labels: golden value and against a loop over triples."""

import itertools

import pytest
import torch
from brute_force_losses import assert_agree, embeddings, mean, objective, value_and_slope

from rhs.errors import UserError
from rhs.methods.losses.log_ratio import LogRatio


def of_anchor(x, y, a):
    """Mean over the pairs of others; None where there is no pair. y: [B, L]."""

    def ratio(points, i, j):
        apart = [((points[a] - points[k]) ** 2).sum() for k in (i, j)]
        return (apart[0] / apart[1]).log()

    others = [i for i in range(len(x)) if (y[i] != y[a]).any()]
    values = [(ratio(x, i, j) - ratio(y, i, j)) ** 2 for i, j in itertools.combinations(others, 2)]
    return mean(values) if values else None


def brute_force(x, y):
    values = [of_anchor(x, y, a) for a in range(len(x))]
    return mean([value for value in values if value is not None])


GOLDEN_X = torch.tensor([[0, 0], [1, 0], [0, 2], [2, 2]]).double()
GOLDEN_Y = torch.tensor([[0], [1], [1.5], [3]]).double()


def test_golden_value_of_the_first_anchor():
    value = of_anchor(GOLDEN_X, GOLDEN_Y, 0)
    torch.testing.assert_close(value.item(), 0.2751232, rtol=0, atol=1e-7)


def test_the_golden_points_against_a_loop():
    loss = LogRatio(0.0)
    assert_agree(
        lambda x: loss.of_values(x, GOLDEN_Y), lambda x: brute_force(x, GOLDEN_Y), GOLDEN_X
    )


@pytest.mark.parametrize("values", [1, 3])
def test_against_a_loop(values):
    """Samples of one class have one value: as an anchor's others they are left out."""
    x, labels = embeddings()
    values_CL = torch.rand(6, values, generator=torch.Generator().manual_seed(0)).double()
    loss = LogRatio(0.0)
    loss.prepare(6, x.shape[1], values_CL)
    ours = objective(loss, labels)
    assert_agree(ours, lambda x: brute_force(x, values_CL[labels]), x)


def test_anchors_with_fewer_than_two_others_do_not_count():
    """Here the last sample alone has two others."""
    x, _ = embeddings(sizes=(3,))
    y = torch.tensor([[1], [1], [4]]).double()
    assert [of_anchor(x, y, a) is None for a in range(3)] == [True, True, False]
    assert_agree(lambda x: LogRatio(0.0).of_values(x, y), lambda x: of_anchor(x, y, 2), x)


def test_distances_in_proportion_to_those_of_labels_cost_nothing():
    y = torch.rand(7, 2, generator=torch.Generator().manual_seed(0)).double()
    value, slope = value_and_slope(lambda x: LogRatio(0.0).of_values(x, y), 5 * y + 3)
    torch.testing.assert_close(value.item(), 0.0)
    torch.testing.assert_close(slope, torch.zeros_like(slope))


@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1], [0]])
def test_without_two_others_the_loss_is_zero(labels):
    loss = LogRatio()
    loss.prepare(2, 4, torch.tensor([[0.0], [1.0]]))
    x = torch.randn(len(labels), 4).requires_grad_()
    value = loss(x, torch.tensor(labels))
    value.backward()
    assert value == 0
    assert (x.grad == 0).all()


def test_coinciding_embeddings_have_a_finite_loss_and_gradient():
    x = torch.tensor([[1.0, 2], [1, 2], [3, 4], [3, 4]])
    value, slope = value_and_slope(lambda x: LogRatio().of_values(x, GOLDEN_Y.float()), x)
    assert torch.isfinite(value)
    assert value > 0
    assert torch.isfinite(slope).all()


def test_without_continuous_labels_there_is_a_sentence():
    with pytest.raises(UserError, match="name each class folder by a number"):
        LogRatio().prepare(6, 4)


def test_values_that_single_precision_cannot_tell_apart():
    """Such as times in seconds: 1700000001 and 1700000004 are one number in single precision."""
    values_CL = torch.tensor([[1700000001], [1700000004], [1700000007]]).double()
    loss = LogRatio(0.0)
    loss.prepare(3, 2, values_CL)
    x = torch.tensor([[0, 0], [1, 0], [0, 2]]).float()
    near = (values_CL - 1700000000).double()
    value, slope = value_and_slope(lambda x: loss(x, torch.arange(3)), x)
    expected = value_and_slope(lambda x: brute_force(x, near), x.double())
    assert expected[0] > 0.1
    torch.testing.assert_close(value, expected[0].float())
    torch.testing.assert_close(slope, expected[1].float())
