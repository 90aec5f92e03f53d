"""Moving points about: the rotation of RHS-DML and the reflection of Symmetrical Synthesis.

All functions work row by row on [N, D] tensors in the tensors' own precision, and have finite
gradients everywhere, also where points coincide.
"""

import torch
from torch.autograd.function import once_differentiable

TINY = 1e-12  # squared length below which a direction is not defined
UNMOVED = 1e-3  # radians: a rotation by less is one that moves nothing
LEVER = 10.0  # r / s above which the anchor no longer steers the rotation


def rotate(
    anchor_ND: torch.Tensor,
    positive_ND: torch.Tensor,
    center_ND: torch.Tensor,
    fraction: float = 1.0,
) -> torch.Tensor:
    """Rotate each positive about its class center, away from its anchor.

    With r = |p - c|, u = (p - c) / r and v = (c - a) / |c - a|, the full rotation is p' = c + r v:
    it lies on the reverse extension of the ray from the anchor through the center, so
    |a - p'| = |a - c| + |c - p|, the farthest any point of that sphere can be from the anchor. A
    fraction t moves the positive that share of the angle between u and v, in their plane;
    |a - p_t| grows strictly with t.

    Rows where the anchor or the positive is the center have no angle and come back unchanged, and
    so do rows whose full rotation is by less than UNMOVED: there p' is p but for rounding, with
    another gradient, and rounding must not decide which of the two a minimum over both takes. Where
    u = -v, to within UNMOVED, the plane is undefined and any fraction above 0 gives the full
    rotation. The slope of v, and with it that of p' by the anchor, grows as r / |a - c|: where that
    is above LEVER, v is taken as a constant. The slopes of a partial rotation grow as u nears -v:
    where its share of u is above LEVER, they are those of the full rotation.

    Args:
        anchor_ND, positive_ND, center_ND: [N, D], one triplet a row.
        fraction: 0 (unchanged) to 1 (the full rotation).

    Returns:
        [N, D] rotated positives.

    Source: Zhang, Yan, Wei and Liang, J. Shanxi Univ. (Nat. Sci.) 47(5), 2024 (the full rotation);
    the partial one is derived here.
    """
    return rotate_and_tell(anchor_ND, positive_ND, center_ND, fraction)[0]


def rotate_and_tell(
    anchor_ND: torch.Tensor,
    positive_ND: torch.Tensor,
    center_ND: torch.Tensor,
    fraction: float = 1.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """As `rotate`; and which rows [N] a full rotation moves, by UNMOVED or more."""
    made_ND, moved_N = _Rotate.apply(anchor_ND, positive_ND, center_ND, fraction)
    return (positive_ND if fraction == 0.0 else made_ND), moved_N


def rotate_on_sphere(
    anchor_ND: torch.Tensor,
    positive_ND: torch.Tensor,
    center_ND: torch.Tensor,
    fraction: float = 1.0,
) -> torch.Tensor:
    """Rotate each positive about the axis of its class center, away from its anchor.

    With h = c / |c|, the part of p along h stays, and the part across it turns from its direction
    to the one opposite to the anchor's: for unit vectors at the angles A and P from h, the full
    rotation has |p'| = 1, p'.h = cos P and a.p' = cos(A + P), the least that any point at the angle
    P from h can have. The axis of a center at the origin is undefined: p comes back unchanged.

    Source: derived here; with p = a it is the reflection of Symmetrical Synthesis about c.
    """
    return rotate_on_sphere_and_tell(anchor_ND, positive_ND, center_ND, fraction)[0]


def rotate_on_sphere_and_tell(
    anchor_ND: torch.Tensor,
    positive_ND: torch.Tensor,
    center_ND: torch.Tensor,
    fraction: float = 1.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """As `rotate_on_sphere`; and which rows [N] a full rotation moves."""
    axis_ND, length_N1, has_axis_N1 = _direction(center_ND)
    # The slope of the axis grows as |p| / |c|, as that of v does as r / s.
    short_N1 = positive_ND.norm(dim=1, keepdim=True) > LEVER * length_N1
    axis_ND = torch.where(short_N1, axis_ND.detach(), axis_ND)
    along_N1 = (positive_ND * axis_ND).sum(1, keepdim=True)
    p_across_ND = positive_ND - along_N1 * axis_ND
    a_across_ND = anchor_ND - (anchor_ND * axis_ND).sum(1, keepdim=True) * axis_ND
    origin_ND = torch.zeros_like(axis_ND)
    turned_ND, moved_N = rotate_and_tell(a_across_ND, p_across_ND, origin_ND, fraction)
    made_ND = torch.where(has_axis_N1, along_N1 * axis_ND + turned_ND, positive_ND)
    return made_ND, moved_N & has_axis_N1[:, 0]


def nearer(
    anchor_ND: torch.Tensor, positive_ND: torch.Tensor, center_ND: torch.Tensor
) -> torch.Tensor:
    """Which positives [N] are nearer to their anchors than the spread about the center suggests.

    Two independent members of a class at the distances s and r from its center are at a squared
    distance of s^2 + r^2 on average. Nearer, |a - p|^2 < s^2 + r^2, are those that the center sees
    on the anchor's side: the angle between a - c and p - c is acute.
    """
    return _dot(anchor_ND - center_ND, positive_ND - center_ND)[:, 0] > 0


def reflect(
    point_ND: torch.Tensor, axis_ND: torch.Tensor, alpha: float = 2.0, beta: float = 1.0
) -> torch.Tensor:
    """Mirror each point about the line through the origin and its axis point.

    x' = beta (alpha proj - x), where proj is the projection of x on the axis. With alpha = 2 and
    beta = 1 this keeps |x'| = |x| and x' . axis = x . axis. A zero axis gives -beta x.

    Args:
        point_ND, axis_ND: [N, D].

    Source: Gu and Ko, Symmetrical Synthesis for Deep Metric Learning, AAAI 2020.
    """
    along_N1 = (point_ND * axis_ND).sum(1, keepdim=True)
    length2_N1 = axis_ND.square().sum(1, keepdim=True).clamp_min(TINY)
    return beta * (alpha * along_N1 / length2_N1 * axis_ND - point_ND)


def _direction(x_ND: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Unit vectors [N, D], lengths [N, 1] and whether a direction is defined [N, 1]."""
    length2_N1 = x_ND.square().sum(1, keepdim=True)
    defined_N1 = length2_N1 > TINY
    # sqrt has an infinite slope at 0: take it of 1 there, and discard the row later.
    length_N1 = torch.where(defined_N1, length2_N1, torch.ones_like(length2_N1)).sqrt()
    return x_ND / length_N1, length_N1, defined_N1


def _dot(x_ND: torch.Tensor, y_ND: torch.Tensor) -> torch.Tensor:
    """Dot product of each row [N, 1]."""
    return (x_ND * y_ND).sum(1, keepdim=True)


class _Rotate(torch.autograd.Function):
    """The rotation, and its slopes by hand.

    Everything but e = c - a, f = p - c and a few of their combinations is one number a row. With
    the angle w between u = f / r and v = e / s the rotated point is c + r (A u + B v), where
    A = sin((1 - t) w) / sin w and B = sin(t w) / sin w. Of A u + B v the part along v is
    cos((1 - t) w), and the rest is A times the part of u across v.
    """

    @staticmethod
    def forward(ctx, anchor_ND, positive_ND, center_ND, t):
        e_ND, f_ND = center_ND - anchor_ND, positive_ND - center_ND
        s2_N1, r2_N1 = _dot(e_ND, e_ND), _dot(f_ND, f_ND)
        s_N1, r_N1 = s2_N1.clamp_min(TINY).sqrt(), r2_N1.clamp_min(TINY).sqrt()
        cos_N1 = _dot(e_ND, f_ND) / (s_N1 * r_N1)
        # r sin w, from the part of f across e: of 1 - cos^2 only rounding may be left.
        across_ND = torch.addcmul(f_ND, e_ND, cos_N1 * r_N1 / s_N1, value=-1)
        sin_N1 = _dot(across_ND, across_ND).sqrt() / r_N1
        chord2_N1 = sin_N1.square() + (1 - cos_N1).square()  # |u - v|^2
        tiny_N1 = TINY * (1 + _dot(center_ND, center_ND))  # what rounding leaves of differences
        moved_N1 = (s2_N1 > tiny_N1) & (r2_N1 > tiny_N1) & (chord2_N1 > UNMOVED**2)
        a_N1, along_N1, k_N1 = torch.zeros_like(cos_N1), torch.ones_like(cos_N1), None
        made_ND = center_ND
        if t != 1.0:
            planar_N1 = sin_N1 > UNMOVED  # closer to 0, the plane is made of rounding errors
            sin_N1 = torch.where(planar_N1, sin_N1, 1.0)
            left_N1 = (1 - t) * torch.atan2(sin_N1, cos_N1)
            a_N1 = torch.where(planar_N1, left_N1.sin() / sin_N1, 0.0)
            along_N1 = torch.where(planar_N1, left_N1.cos(), 1.0)
            k_N1 = (planar_N1, sin_N1)
            made_ND = torch.addcmul(made_ND, across_ND, a_N1)
        made_ND = torch.addcmul(made_ND, e_ND, along_N1 * r_N1 / s_N1)
        rows = [s_N1, r_N1, cos_N1, moved_N1, a_N1, along_N1, *(k_N1 or ())]
        ctx.save_for_backward(e_ND, f_ND, *rows)
        ctx.t = t
        moved_N = moved_N1[:, 0]
        ctx.mark_non_differentiable(moved_N)
        return torch.where(moved_N1, made_ND, positive_ND), moved_N

    @staticmethod
    @once_differentiable
    def backward(ctx, g_ND, _):
        e_ND, f_ND, s_N1, r_N1, cos_N1, moved_N1, a_N1, along_N1, *plane = ctx.saved_tensors
        b_N1 = along_N1 - a_N1 * cos_N1
        by_u_N1, by_v_N1 = _dot(g_ND, f_ND) / r_N1, _dot(g_ND, e_ND) / s_N1
        # The slope of w, times what A and B change by: k = g . (A' u + B' v) / sin w.
        k_N1 = _Rotate._bend(ctx.t, a_N1, b_N1, cos_N1, by_u_N1, by_v_N1, *plane)
        # By f: A g + (B gv + k cos) u - k v. By e: r/s (B g + (k cos - B gv) v - k u).
        # A is large where u is almost -v: the slopes of the full rotation there.
        steep_N1 = a_N1 > LEVER
        a_N1, b_N1, k_N1 = (
            torch.where(steep_N1, flat, own)
            for own, flat in ((a_N1, 0.0), (b_N1, 1.0), (k_N1, 0.0))
        )
        lever_N1 = torch.where(r_N1 > LEVER * s_N1, 0.0, r_N1 / s_N1)
        steer_N1 = lever_N1 * b_N1
        f_g, f_f, f_e = a_N1, (b_N1 * by_v_N1 + k_N1 * cos_N1) / r_N1, -k_N1 / s_N1
        e_e, e_f = lever_N1 * (k_N1 * cos_N1 - b_N1 * by_v_N1) / s_N1, -lever_N1 * k_N1 / r_N1
        # Rows that did not move pass g on to the positive and nothing else.
        by_f = [torch.where(moved_N1, c, o) for c, o in ((f_g, 1.0), (f_f, 0.0), (f_e, 0.0))]
        by_e = [torch.where(moved_N1, c, 0.0) for c in (steer_N1, e_f, e_e)]
        p_ND, a_ND = ((g * g_ND).addcmul_(f_ND, f).addcmul_(e_ND, e) for g, f, e in (by_f, by_e))
        return a_ND.neg_(), p_ND, g_ND - p_ND - a_ND, None

    @staticmethod
    def _bend(t, a_N1, b_N1, cos_N1, by_u_N1, by_v_N1, planar_N1=None, sin_N1=None):
        if planar_N1 is None or sin_N1 is None:  # the full rotation: A = 0 and B = 1 at any angle
            return torch.zeros_like(a_N1)
        angle_N1 = torch.atan2(sin_N1, cos_N1)
        a_slope_N1 = (1 - t) * ((1 - t) * angle_N1).cos() - a_N1 * cos_N1
        b_slope_N1 = t * (t * angle_N1).cos() - b_N1 * cos_N1
        bend_N1 = (a_slope_N1 * by_u_N1 + b_slope_N1 * by_v_N1) / sin_N1.square()
        return torch.where(planar_N1, bend_N1, 0.0)
