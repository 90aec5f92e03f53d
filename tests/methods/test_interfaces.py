"""Rows: what is masked out is not there."""

import math

import pytest
import torch
from brute_force_losses import entries, some_rows

from rhs.errors import UserError
from rhs.methods.losses.npair import NPair
from rhs.methods.mining.pairs import PairMiner
from rhs.methods.objective import Objective
from rhs.methods.sums import masked_mean


def test_absent_negatives_are_seen_by_no_maximum_and_no_exponential():
    rows = some_rows()
    made = rows.negatives_or_nothing()
    for (_, negatives), row in zip(entries(rows), made, strict=True):
        if negatives:
            assert row.max() == max(negatives)
            expected = math.log(sum(math.exp(value) for value in negatives))
            torch.testing.assert_close(row.logsumexp(0).item(), expected)
        else:
            assert (row < -1e29).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_absent_negatives_are_finite_also_when_scaled(dtype):
    made = some_rows().negatives_or_nothing().to(dtype).requires_grad_()
    value = torch.nn.functional.softplus((100 * made).logsumexp(1)).sum()
    (slope,) = torch.autograd.grad(value, made)
    assert value.isfinite()
    assert slope.isfinite().all()


def test_the_mean_is_that_of_the_entries_in_the_mask():
    values = torch.tensor([[1.0, 2, 30], [4, 50, 60]]).requires_grad_()
    mask = torch.tensor([[True, True, False], [True, False, False]])
    mean = masked_mean(values, mask)
    torch.testing.assert_close(mean.item(), 7 / 3)
    (slope,) = torch.autograd.grad(mean, values)
    torch.testing.assert_close(slope, mask / 3)


@pytest.mark.parametrize("shape", [(3,), (2, 3), (0, 3), (2, 0)])
def test_the_mean_of_nothing_is_zero(shape):
    values = torch.randn(shape).requires_grad_()
    mean = masked_mean(values, torch.zeros(shape, dtype=torch.bool))
    assert mean == 0
    assert (torch.autograd.grad(mean, values)[0] == 0).all()


@pytest.mark.parametrize("wild", [math.inf, -math.inf, math.nan])
def test_the_mean_does_not_see_what_is_infinite_outside_of_the_mask(wild):
    values = torch.tensor([1.0, wild, 3.0]).requires_grad_()
    mean = masked_mean(values, torch.tensor([True, False, True]))
    assert mean == 2
    assert torch.autograd.grad(mean, values)[0].tolist() == [0.5, 0, 0.5]


def test_a_part_without_a_member_is_refused_by_the_member_s_name():
    class Bare:
        takes_labels, continuous, divisible, wants_refresh = False, False, False, False

        def prepare(self, num_classes, dim):
            pass

        def set_measure(self, measure):
            pass

        def __call__(self, rows):
            return rows.positive_RP.mean()

    with pytest.raises(UserError, match=r"method\.loss is Bare.*no member 'measures'.*Similarity"):
        Objective(Bare(), PairMiner())
    Bare.measures = ("dot",)
    with pytest.raises(UserError, match="no member 'both_ends'"):
        Objective(Bare(), PairMiner())
    Bare.both_ends, Bare.needs_partner = False, False
    Objective(Bare(), PairMiner())
    Bare.wants_refresh = True
    with pytest.raises(UserError, match=r"no member 'every'.*interfaces\.Refreshed"):
        Objective(Bare(), PairMiner())
    with pytest.raises(UserError, match=r"method\.mining is str.*no member 'both_ends'"):
        Objective(NPair(), "all")
    with pytest.raises(UserError, match=r"method\.generator is str.*no member 'wants_refresh'"):
        Objective(NPair(), PairMiner(), generator="rotation")
