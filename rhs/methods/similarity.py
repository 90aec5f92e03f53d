"""How close two embeddings are, as a number that grows with closeness.

Distances come with a minus sign. So mining and losses need one direction only: a harder positive
has a smaller similarity, a harder negative a larger one.
"""

import torch
from torch.autograd.function import once_differentiable

from rhs.errors import UserError
from rhs.methods.geometry import TINY

MEASURES = ("dot", "euclidean", "squared_euclidean")
ROUNDING = 16  # units in the last place of squared lengths that a difference of them may be off by
NOTHING = -1e30  # similarity of what does not take part: finite, so that gradients are 0, not NaN


def check_measure(measure: str) -> str:
    """Raises UserError unless `measure` is one of MEASURES."""
    if measure not in MEASURES:
        raise UserError(f"method.measure is {measure!r}; it must be one of {', '.join(MEASURES)}.")
    return measure


def matrix(x_RD: torch.Tensor, y_CD: torch.Tensor, measure: str) -> torch.Tensor:
    """Similarity [R, C] of every x to every y: their dot product, or minus their distance.

    Distances come from |x|^2 + |y|^2 - 2 x.y, about the mean of y, which they do not see but their
    rounding does. Points closer than rounding can tell are at distance 0, with gradient 0.
    """
    if measure == "dot" or not len(y_CD):
        return x_RD @ y_CD.T
    middle_D = y_CD.detach().mean(0)
    x_RD, y_CD = x_RD - middle_D, y_CD - middle_D
    return _Distances.apply(x_RD, y_CD, measure == "euclidean")


class _Distances(torch.autograd.Function):
    """Minus the distances, with every matrix [R, C] written over where it is not needed again."""

    @staticmethod
    def forward(ctx, x_RD, y_CD, root):
        lengths2_RC = x_RD.square().sum(1)[:, None] + y_CD.square().sum(1)[None, :]
        made_RC = torch.addmm(lengths2_RC, x_RD, y_CD.T, alpha=-2)
        near_RC = made_RC <= lengths2_RC.mul_(ROUNDING * torch.finfo(made_RC.dtype).eps)
        made_RC.masked_fill_(near_RC, 0.0)
        if root:
            made_RC.sqrt_()
        made_RC.neg_()
        ctx.save_for_backward(x_RD, y_CD, made_RC)
        ctx.root = root
        return made_RC

    @staticmethod
    @once_differentiable
    def backward(ctx, g_RC):
        x_RD, y_CD, made_RC = ctx.saved_tensors
        # By the squared distance: -g, or -g / 2d; nothing where the points are taken as one.
        by_RC = (g_RC / made_RC).mul_(0.5) if ctx.root else -g_RC
        by_RC.masked_fill_(made_RC == 0, 0.0)
        by_x = by_RC.sum(1)[:, None] * x_RD - by_RC @ y_CD
        by_y = by_RC.sum(0)[:, None] * y_CD - by_RC.T @ x_RD
        return 2 * by_x, 2 * by_y, None


def from_squared(squared_RC: torch.Tensor, lengths2_RC: torch.Tensor, measure: str) -> torch.Tensor:
    """Minus the distance, or its square, from squared distances as dot products give them.

    Args:
        lengths2_RC: the sum of the squared lengths that they were computed from, or a bound of it.
    """
    floor_RC = ROUNDING * torch.finfo(squared_RC.dtype).eps * lengths2_RC.detach()
    near_RC = squared_RC <= floor_RC
    if measure == "squared_euclidean":
        return -squared_RC.masked_fill(near_RC, 0.0)
    return -squared_RC.masked_fill(near_RC, 1.0).sqrt().masked_fill(near_RC, 0.0)


def rowwise(x_ND: torch.Tensor, y_ND: torch.Tensor, measure: str) -> torch.Tensor:
    """Similarity of each x to the y of its row; leading dimensions may be any."""
    if measure == "dot":
        return (x_ND * y_ND).sum(-1)
    squared_N = (x_ND - y_ND).square().sum(-1)
    if measure == "squared_euclidean":
        return -squared_N
    near_N = squared_N <= TINY
    return -squared_N.masked_fill(near_N, 1.0).sqrt().masked_fill(near_N, 0.0)
