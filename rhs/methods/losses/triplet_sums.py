"""Sums over all triples of anchor, positive and negative without a list of them.

A row with P positives and C negatives has P C triples; a batch of B samples up to B^3 / 4. Both
sums here take memory in proportion to the rows' entries, P + C a row.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

from rhs.methods.batch import AnchorSimilarities
from rhs.methods.similarity import NO_SIMILARITY

CHUNK = 2**23  # entries [R, p, C] that the soft sum holds at a time


def hinge_triples(rows: AnchorSimilarities, margin: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum of [negative - positive + margin]_+ and the number of triples where that is above 0."""
    positive_RP = rows.positive_RP.masked_fill(~rows.has_positive_RP, -NO_SIMILARITY)
    return _Hinge.apply(positive_RP, rows.negatives_or_nothing(), margin)


def soft_triples(rows: AnchorSimilarities, scale: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum of log(1 + exp(scale (negative - positive))) and the number of triples."""
    positive_RP = (scale * rows.positive_RP).masked_fill(~rows.has_positive_RP, -NO_SIMILARITY)
    count_R = rows.has_positive_RP.sum(1) * rows.has_negative_RC.sum(1)
    return _Soft.apply(positive_RP, scale * rows.negatives_or_nothing()), count_R.sum()


class _Hinge(torch.autograd.Function):
    """With each row's thresholds positive - margin sorted, a negative is active with the first k of
    them: k is found by bisection, and the sums follow from prefix sums."""

    @staticmethod
    def forward(
        ctx: Any, positive_RP: torch.Tensor, negative_RC: torch.Tensor, margin: float
    ) -> tuple:
        threshold_RP, order_RP = (positive_RP - margin).sort(1)
        active_RC = torch.searchsorted(threshold_RP, negative_RC)
        prefix_RP1 = F.pad(threshold_RP.cumsum(1), (1, 0))
        lost = (active_RC * negative_RC - prefix_RP1.gather(1, active_RC)).sum()
        count = active_RC.sum()
        ctx.save_for_backward(order_RP, active_RC)
        ctx.dtype = positive_RP.dtype
        ctx.mark_non_differentiable(count)
        return lost, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor, _: None) -> tuple:
        order_RP, active_RC = ctx.saved_tensors
        rows, width = order_RP.shape[0], order_RP.shape[1] + 1
        # How many negatives are active with k positives, then with more than each place.
        offset_R1 = torch.arange(rows, device=order_RP.device)[:, None] * width
        histogram = torch.bincount((active_RC + offset_R1).flatten(), minlength=rows * width)
        more_RP = histogram.view(rows, width)[:, 1:].flip(1).cumsum(1).flip(1)
        by_positive_RP = torch.zeros_like(more_RP).scatter(1, order_RP, more_RP)
        return -grad * by_positive_RP.to(ctx.dtype), grad * active_RC.to(ctx.dtype), None


class _Soft(torch.autograd.Function):
    """The slopes by each positive and negative are summed up on the way."""

    @staticmethod
    def forward(ctx: Any, positive_RP: torch.Tensor, negative_RC: torch.Tensor) -> torch.Tensor:
        lost = positive_RP.new_zeros(())
        by_positive_RP = torch.empty_like(positive_RP)
        by_negative_RC = torch.zeros_like(negative_RC)
        step = max(1, CHUNK // max(1, negative_RC.numel()))
        for first in range(0, positive_RP.shape[1], step):
            part = slice(first, first + step)
            excess_RpC = negative_RC[:, None, :] - positive_RP[:, part, None]
            lost += F.softplus(excess_RpC).sum()
            slope_RpC = excess_RpC.sigmoid_()
            by_positive_RP[:, part] = -slope_RpC.sum(2)
            by_negative_RC += slope_RpC.sum(1)
        ctx.save_for_backward(by_positive_RP, by_negative_RC)
        return lost

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple:
        by_positive_RP, by_negative_RC = ctx.saved_tensors
        return grad * by_positive_RP, grad * by_negative_RC
