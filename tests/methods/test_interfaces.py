"""Rows: what is masked out is not there."""

import math

import pytest
import torch
from brute_force_losses import entries, some_rows

from rhs.methods.interfaces import masked_mean


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
