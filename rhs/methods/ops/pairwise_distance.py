"""Distances of all pairs of two sets of points, with a gradient written by hand to save memory."""

from typing import Any

import torch
from torch.autograd.function import once_differentiable

ROUNDING = 16  # units in the last place of squared lengths that a difference of them may be off by


class _Distances(torch.autograd.Function):
    """Minus the distances, with every matrix [R, C] written over where it is not needed again."""

    @staticmethod
    def forward(ctx: Any, x_RD: torch.Tensor, y_CD: torch.Tensor, root: bool) -> torch.Tensor:
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
    def backward(ctx: Any, g_RC: torch.Tensor) -> tuple:
        x_RD, y_CD, made_RC = ctx.saved_tensors
        # By the squared distance: -g, or -g / 2d; nothing where the points are taken as one.
        by_RC = (g_RC / made_RC).mul_(0.5) if ctx.root else -g_RC
        by_RC.masked_fill_(made_RC == 0, 0.0)
        by_x = by_RC.sum(1)[:, None] * x_RD - by_RC @ y_CD
        by_y = by_RC.sum(0)[:, None] * y_CD - by_RC.T @ x_RD
        return 2 * by_x, 2 * by_y, None
