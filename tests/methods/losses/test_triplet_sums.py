"""Sums over all triples without a list of them, against the list."""

import math

import pytest
import torch
from brute_force_losses import entries, some_rows

from rhs.methods.batch import AnchorSimilarities
from rhs.methods.losses import triplet_sums
from rhs.methods.losses.triplet_sums import hinge_triples, soft_triples

MARGIN, SCALE = 0.3, 1.7


def softplus(value):
    return max(value, 0.0) + math.log1p(math.exp(-abs(value)))


def sums_of(rows: AnchorSimilarities) -> tuple[float, int, float, int]:
    """Hinge sum and active triples, soft sum and triples."""
    hinges, softs = [], []
    for positives, negatives in entries(rows):
        for positive in positives:
            hinges += [float(negative - positive) + MARGIN for negative in negatives]
            softs += [softplus(SCALE * float(negative - positive)) for negative in negatives]
    active = [value for value in hinges if value > 0]
    return sum(active), len(active), sum(softs), len(softs)


def slopes_of(rows: AnchorSimilarities, slope) -> tuple[torch.Tensor, torch.Tensor]:
    """By each positive and negative, from the slope of a triple by its excess."""
    by_positive, by_negative = (torch.zeros_like(x) for x in (rows.positive_RP, rows.negative_RC))
    for r, p in rows.has_positive_RP.nonzero().tolist():
        for c in rows.has_negative_RC[r].nonzero()[:, 0].tolist():
            one = slope((rows.negative_RC[r, c] - rows.positive_RP[r, p]).item())
            by_positive[r, p] -= one
            by_negative[r, c] += one
    return by_positive, by_negative


def hinge_slope(excess: float) -> float:
    return float(excess + MARGIN > 0)


def soft_slope(excess: float) -> float:
    return SCALE / (1 + math.exp(-SCALE * excess))


def check(rows: AnchorSimilarities) -> None:
    lost, active, soft, count = sums_of(rows)
    for function, setting, expected, number, slope in (
        (hinge_triples, MARGIN, lost, active, hinge_slope),
        (soft_triples, SCALE, soft, count, soft_slope),
    ):
        rows.positive_RP, rows.negative_RC = (
            x.detach().requires_grad_() for x in (rows.positive_RP, rows.negative_RC)
        )
        total, triples_counted = function(rows, setting)
        assert triples_counted == number
        torch.testing.assert_close(total.item(), float(expected))
        total.backward()
        for x, expected_slope in zip(
            (rows.positive_RP, rows.negative_RC), slopes_of(rows, slope), strict=True
        ):
            torch.testing.assert_close(x.grad, expected_slope)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("shape", [(7, 4, 5), (3, 1, 6), (4, 6, 1), (1, 1, 1), (2, 3, 9)])
def test_against_the_list_of_triples(shape, seed):
    check(some_rows(*shape, seed=seed))


@pytest.mark.parametrize("chunk", [1, 36, 70, 10**6])
def test_the_soft_sum_does_not_depend_on_how_much_is_held_at_a_time(monkeypatch, chunk):
    rows = some_rows(7, 5, 5)
    monkeypatch.setattr(triplet_sums, "CHUNK", chunk)
    check(rows)


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [
        (torch.float64, {"rtol": 1e-10, "atol": 1e-10}),
        (torch.float32, {"rtol": 2e-5, "atol": 2e-5}),
    ],
)
@pytest.mark.parametrize(("function", "setting"), [(hinge_triples, MARGIN), (soft_triples, SCALE)])
def test_many_positives_against_all_triples_held_at_once(function, setting, dtype, tolerance):
    rows = some_rows(5, 400, 300)
    inputs = rows.positive_RP, rows.negative_RC
    exact = [x.clone().requires_grad_() for x in inputs]
    excess = exact[1][:, None, :] - exact[0][:, :, None]
    if function is hinge_triples:
        terms = (excess + MARGIN).clamp(min=0)
    else:
        terms = torch.nn.functional.softplus(SCALE * excess)
    there = rows.has_positive_RP[:, :, None] & rows.has_negative_RC[:, None, :]
    expected = terms[there].sum()
    rows.positive_RP, rows.negative_RC = (x.to(dtype).requires_grad_() for x in inputs)
    total, _ = function(rows, setting)
    torch.testing.assert_close(total.double(), expected, **tolerance)
    slopes = torch.autograd.grad(total, (rows.positive_RP, rows.negative_RC))
    for slope, expected_slope in zip(slopes, torch.autograd.grad(expected, exact), strict=True):
        torch.testing.assert_close(slope.double(), expected_slope, **tolerance)


@pytest.mark.parametrize("function", [hinge_triples, soft_triples])
def test_slopes_are_those_of_finite_differences(function):
    rows = some_rows()

    def total(positive, negative):
        masks = rows.has_positive_RP, rows.has_negative_RC
        return (
            3
            * function(
                AnchorSimilarities(positive, masks[0], negative, masks[1], rows.labels_R), MARGIN
            )[0]
        )

    # Where they count only: the others are too large for finite differences.
    positive = rows.positive_RP.where(rows.has_positive_RP, 0.0).requires_grad_()
    negative = rows.negative_RC.where(rows.has_negative_RC, 0.0).requires_grad_()
    assert torch.autograd.gradcheck(total, (positive, negative))


def test_equal_similarities_count_each():
    """Four equal positives, two equal negatives, and one just not active."""
    true = torch.ones(1, 4, dtype=torch.bool)
    rows = AnchorSimilarities(
        torch.full((1, 4), 0.5).requires_grad_(),
        true,
        torch.tensor([[0.5, 0.5, 0.25, 0.0]]).requires_grad_(),
        true,
        torch.zeros(1),
    )
    total, active = hinge_triples(rows, 0.25)
    assert active == 8  # at 0.25 the hinge is exactly 0
    assert total == 8 * 0.25
    total.backward()
    assert rows.positive_RP.grad.tolist() == [[-2, -2, -2, -2]]
    assert rows.negative_RC.grad.tolist() == [[4, 4, 0, 0]]


@pytest.mark.parametrize("function", [hinge_triples, soft_triples])
@pytest.mark.parametrize("nothing", ["positive", "negative"])
def test_without_positives_or_without_negatives_there_is_no_triple(function, nothing):
    rows = some_rows()
    mask = rows.has_positive_RP if nothing == "positive" else rows.has_negative_RC
    mask[:] = False
    inputs = [x.requires_grad_() for x in (rows.positive_RP, rows.negative_RC)]
    total, count = function(rows, MARGIN)
    assert (total.item(), count.item()) == (0, 0)
    assert all((slope == 0).all() for slope in torch.autograd.grad(total, inputs))


@pytest.mark.parametrize("function", [hinge_triples, soft_triples])
@pytest.mark.parametrize("shape", [(0, 1, 0), (0, 3, 4), (2, 3, 0), (2, 0, 3)])
def test_empty_rows(function, shape):
    made = [torch.zeros(shape[0], count).double() for count in shape[1:]]
    masks = [torch.ones_like(x, dtype=torch.bool) for x in made]
    rows = AnchorSimilarities(made[0], masks[0], made[1], masks[1], torch.zeros(shape[0]))
    inputs = [x.requires_grad_() for x in (rows.positive_RP, rows.negative_RC)]
    total, count = function(rows, MARGIN)
    assert (total.item(), count.item()) == (0, 0)
    assert all((slope == 0).all() for slope in torch.autograd.grad(total, inputs))


def test_the_soft_sum_of_large_differences_does_not_overflow():
    true = torch.ones(1, 1, dtype=torch.bool)
    rows = AnchorSimilarities(
        torch.tensor([[-1000.0]]).requires_grad_(),
        true,
        torch.tensor([[1000.0]]),
        true,
        torch.zeros(1),
    )
    total, _ = soft_triples(rows)
    total.backward()
    assert total == 2000
    assert rows.positive_RP.grad == -1
