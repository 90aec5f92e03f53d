"""The rotation of RHS-DML as one operation, with its gradient written by hand."""

from typing import Any

import torch
from torch.autograd.function import once_differentiable

EPSILON = 1e-12  # squared length below which a direction is not defined
UNMOVED = 1e-3  # radians: a rotation by less is one that moves nothing
MAX_LEVERAGE = 10.0  # r / s above which the anchor no longer steers the rotation


def row_dots(x_ND: torch.Tensor, y_ND: torch.Tensor) -> torch.Tensor:
    """Dot product of each row [N, 1]."""
    return (x_ND * y_ND).sum(1, keepdim=True)


class FusedRotation(torch.autograd.Function):
    """`rhs.methods.generators.geometry.rotation`, and its slopes by hand.

    Everything but e = c - a, f = p - c and a few of their combinations is one number a row. With
    the angle w between u = f / r and v = e / s the rotated point is c + r (A u + B v), where
    A = sin((1 - t) w) / sin w and B = sin(t w) / sin w. Of A u + B v the part along v is
    cos((1 - t) w), and the rest is A times the part of u across v.
    """

    @staticmethod
    def forward(
        ctx: Any,
        anchor_ND: torch.Tensor,
        positive_ND: torch.Tensor,
        center_ND: torch.Tensor,
        t: float,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """[N, D] rotated positives, and which rows [N] a full rotation moves."""
        e_ND, f_ND = center_ND - anchor_ND, positive_ND - center_ND
        s2_N1, r2_N1 = row_dots(e_ND, e_ND), row_dots(f_ND, f_ND)
        s_N1, r_N1 = s2_N1.clamp_min(EPSILON).sqrt(), r2_N1.clamp_min(EPSILON).sqrt()
        cos_N1 = row_dots(e_ND, f_ND) / (s_N1 * r_N1)
        # r sin w, from the part of f across e: of 1 - cos^2 only rounding may be left.
        across_ND = torch.addcmul(f_ND, e_ND, cos_N1 * r_N1 / s_N1, value=-1)
        sin_N1 = row_dots(across_ND, across_ND).sqrt() / r_N1
        chord2_N1 = sin_N1.square() + (1 - cos_N1).square()  # |u - v|^2
        # What rounding leaves of differences.
        tiny_N1 = EPSILON * (1 + row_dots(center_ND, center_ND))
        moved_N1 = (s2_N1 > tiny_N1) & (r2_N1 > tiny_N1) & (chord2_N1 > UNMOVED**2)
        a_N1, along_N1, k_N1 = torch.zeros_like(cos_N1), torch.ones_like(cos_N1), None
        rotated_ND = center_ND
        if t != 1.0:
            planar_N1 = sin_N1 > UNMOVED  # closer to 0, the plane is made of rounding errors
            sin_N1 = torch.where(planar_N1, sin_N1, 1.0)
            left_N1 = (1 - t) * torch.atan2(sin_N1, cos_N1)
            a_N1 = torch.where(planar_N1, left_N1.sin() / sin_N1, 0.0)
            along_N1 = torch.where(planar_N1, left_N1.cos(), 1.0)
            k_N1 = (planar_N1, sin_N1)
            rotated_ND = torch.addcmul(rotated_ND, across_ND, a_N1)
        rotated_ND = torch.addcmul(rotated_ND, e_ND, along_N1 * r_N1 / s_N1)
        rows = [s_N1, r_N1, cos_N1, moved_N1, a_N1, along_N1, *(k_N1 or ())]
        ctx.save_for_backward(e_ND, f_ND, *rows)
        ctx.t = t
        moved_N = moved_N1[:, 0]
        ctx.mark_non_differentiable(moved_N)
        return torch.where(moved_N1, rotated_ND, positive_ND), moved_N

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_ND: torch.Tensor, _: None) -> tuple:
        """The slopes by anchor, positive and center [N, D]; none by t."""
        e_ND, f_ND, s_N1, r_N1, cos_N1, moved_N1, a_N1, along_N1, *plane = ctx.saved_tensors
        b_N1 = along_N1 - a_N1 * cos_N1
        by_u_N1, by_v_N1 = row_dots(g_ND, f_ND) / r_N1, row_dots(g_ND, e_ND) / s_N1
        # The slope of w, times what A and B change by: k = g . (A' u + B' v) / sin w.
        k_N1 = _bend(ctx.t, (a_N1, b_N1), cos_N1, (by_u_N1, by_v_N1), plane)
        # By f: A g + (B gv + k cos) u - k v. By e: r/s (B g + (k cos - B gv) v - k u).
        # A is large where u is almost -v: the slopes of the full rotation there.
        steep_N1 = a_N1 > MAX_LEVERAGE
        a_N1, b_N1, k_N1 = (
            torch.where(steep_N1, flat, own)
            for own, flat in ((a_N1, 0.0), (b_N1, 1.0), (k_N1, 0.0))
        )
        lever_N1 = torch.where(r_N1 > MAX_LEVERAGE * s_N1, 0.0, r_N1 / s_N1)
        steer_N1 = lever_N1 * b_N1
        f_g, f_f, f_e = a_N1, (b_N1 * by_v_N1 + k_N1 * cos_N1) / r_N1, -k_N1 / s_N1
        e_e, e_f = lever_N1 * (k_N1 * cos_N1 - b_N1 * by_v_N1) / s_N1, -lever_N1 * k_N1 / r_N1
        # Rows that did not move pass g on to the positive and nothing else.
        by_f = [torch.where(moved_N1, c, o) for c, o in ((f_g, 1.0), (f_f, 0.0), (f_e, 0.0))]
        by_e = [torch.where(moved_N1, c, 0.0) for c in (steer_N1, e_f, e_e)]
        p_ND, a_ND = ((g * g_ND).addcmul_(f_ND, f).addcmul_(e_ND, e) for g, f, e in (by_f, by_e))
        return a_ND.neg_(), p_ND, g_ND - p_ND - a_ND, None


def _bend(
    t: float,
    shares: tuple[torch.Tensor, torch.Tensor],
    cos_N1: torch.Tensor,
    slopes: tuple[torch.Tensor, torch.Tensor],
    plane: list[torch.Tensor],
) -> torch.Tensor:
    """What the change of the angle w adds to the slope [N, 1].

    Args:
        shares: A and B.
        slopes: of the result by u and by v.
        plane: where there is one [N, 1], and sin w; empty for the full rotation.
    """
    (a_N1, b_N1), (by_u_N1, by_v_N1) = shares, slopes
    if not plane:  # A = 0 and B = 1 at any angle
        return torch.zeros_like(a_N1)
    planar_N1, sin_N1 = plane
    angle_N1 = torch.atan2(sin_N1, cos_N1)
    a_slope_N1 = (1 - t) * ((1 - t) * angle_N1).cos() - a_N1 * cos_N1
    b_slope_N1 = t * (t * angle_N1).cos() - b_N1 * cos_N1
    bend_N1 = (a_slope_N1 * by_u_N1 + b_slope_N1 * by_v_N1) / sin_N1.square()
    return torch.where(planar_N1, bend_N1, 0.0)
