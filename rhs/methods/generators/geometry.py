"""The rotation of RHS-DML, and the reflection of Symmetrical Synthesis.

All functions work row by row on [N, D] tensors in the tensors' own precision, and have finite
gradients everywhere, also where points coincide.
"""

import torch
import torch.nn.functional as F

from rhs.methods.ops.fused_rotation import EPSILON, MAX_LEVERAGE, FusedRotation, row_dots


def rotation(
    anchor_ND: torch.Tensor,
    positive_ND: torch.Tensor,
    center_ND: torch.Tensor,
    fraction: float = 1.0,
) -> torch.Tensor:
    """The rotation of RHS-DML, in plain lines: c + r (A u + B v).

    The positive p lies at the distance r = |p - c| from its class center c, in the direction
    u = (p - c) / r. The ray from the anchor a through the center goes on in the direction
    v = (c - a) / |c - a|. With the angle w between u and v, and a fraction t of it to turn by,

        A = sin((1 - t) w) / sin w,    B = sin(t w) / sin w.

    `rotate`, which training calls, gives the same points and gradients, and knows what to do where
    these lines divide by zero.

    Args:
        anchor_ND, positive_ND, center_ND: [N, D], one triplet a row.
        fraction: t, above 0 (unchanged) to 1 (the full rotation).

    Returns:
        [N, D] rotated positives.
    """
    u_ND = F.normalize(positive_ND - center_ND)
    v_ND = F.normalize(center_ND - anchor_ND)
    r_N1 = (positive_ND - center_ND).norm(dim=1, keepdim=True)
    cos_N1 = (u_ND * v_ND).sum(1, keepdim=True)
    w_N1 = torch.atan2((u_ND - cos_N1 * v_ND).norm(dim=1, keepdim=True), cos_N1)
    a_N1 = torch.sin((1 - fraction) * w_N1) / torch.sin(w_N1)
    b_N1 = torch.sin(fraction * w_N1) / torch.sin(w_N1)
    return center_ND + r_N1 * (a_N1 * u_ND + b_N1 * v_ND)


def rotate(
    anchor_ND: torch.Tensor,
    positive_ND: torch.Tensor,
    center_ND: torch.Tensor,
    fraction: float = 1.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rotate each positive about its class center, away from its anchor: `rotation`, everywhere.

    The full rotation p' lies on the reverse extension of the ray from the anchor through the
    center, so |a - p'| = |a - c| + |c - p|, the farthest any point of that sphere can be from the
    anchor. A fraction t moves the positive that share of the angle between u and v, in their plane;
    |a - p_t| grows strictly with t.

    Rows where the anchor or the positive is the center have no angle and come back unchanged, and
    so do rows whose full rotation is by less than UNMOVED: there p' is p but for rounding, with
    another gradient, and rounding must not decide which of the two a minimum over both takes. Where
    u = -v, to within UNMOVED, the plane is undefined and any fraction above 0 gives the full
    rotation. The slope of v, and with it that of p' by the anchor, grows as r / |a - c|: where that
    is above MAX_LEVERAGE, v is taken as a constant. The slopes of a partial rotation grow as u
    nears -v: where its share of u is above MAX_LEVERAGE, they are those of the full rotation.

    Args:
        anchor_ND, positive_ND, center_ND: [N, D], one triplet a row.
        fraction: 0 (unchanged) to 1 (the full rotation).

    Returns:
        [N, D] rotated positives, and which rows [N] a full rotation moves, by UNMOVED or more.

    Source: Zhang, Yan, Wei and Liang, J. Shanxi Univ. (Nat. Sci.) 47(5), 2024 (the full rotation);
    the partial one is derived here.
    """
    rotated_ND, moved_N = FusedRotation.apply(anchor_ND, positive_ND, center_ND, fraction)
    return (positive_ND if fraction == 0.0 else rotated_ND), moved_N


def rotate_on_sphere(
    anchor_ND: torch.Tensor,
    positive_ND: torch.Tensor,
    center_ND: torch.Tensor,
    fraction: float = 1.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rotate each positive about the axis of its class center, away from its anchor.

    With h = c / |c|, the part of p along h stays, and the part across it turns from its direction
    to the one opposite to the anchor's: for unit vectors at the angles A and P from h, the full
    rotation has |p'| = 1, p'.h = cos P and a.p' = cos(A + P), the least that any point at the angle
    P from h can have. The axis of a center at the origin is undefined: p comes back unchanged.

    Returns:
        [N, D] rotated positives, and which rows [N] a full rotation moves.

    Source: derived here; with p = a it is the reflection of Symmetrical Synthesis about c.
    """
    axis_ND, length_N1, has_axis_N1 = _direction(center_ND)
    # The slope of the axis grows as |p| / |c|, as that of v does as r / s.
    short_N1 = positive_ND.norm(dim=1, keepdim=True) > MAX_LEVERAGE * length_N1
    axis_ND = torch.where(short_N1, axis_ND.detach(), axis_ND)
    along_N1 = (positive_ND * axis_ND).sum(1, keepdim=True)
    p_across_ND = positive_ND - along_N1 * axis_ND
    a_across_ND = anchor_ND - (anchor_ND * axis_ND).sum(1, keepdim=True) * axis_ND
    origin_ND = torch.zeros_like(axis_ND)
    turned_ND, moved_N = rotate(a_across_ND, p_across_ND, origin_ND, fraction)
    rotated_ND = torch.where(has_axis_N1, along_N1 * axis_ND + turned_ND, positive_ND)
    return rotated_ND, moved_N & has_axis_N1[:, 0]


def same_side(
    anchor_ND: torch.Tensor, positive_ND: torch.Tensor, center_ND: torch.Tensor
) -> torch.Tensor:
    """Which positives [N] are nearer to their anchors than the spread about the center suggests.

    Two independent members of a class at the distances s and r from its center are at a squared
    distance of s^2 + r^2 on average. Nearer, |a - p|^2 < s^2 + r^2, are those that the center sees
    on the anchor's side: the angle between a - c and p - c is acute.
    """
    return row_dots(anchor_ND - center_ND, positive_ND - center_ND)[:, 0] > 0


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
    length2_N1 = axis_ND.square().sum(1, keepdim=True).clamp_min(EPSILON)
    return beta * (alpha * along_N1 / length2_N1 * axis_ND - point_ND)


def _direction(x_ND: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Unit vectors [N, D], lengths [N, 1] and whether a direction is defined [N, 1]."""
    length2_N1 = x_ND.square().sum(1, keepdim=True)
    defined_N1 = length2_N1 > EPSILON
    # sqrt has an infinite slope at 0: take it of 1 there, and discard the row later.
    length_N1 = torch.where(defined_N1, length2_N1, torch.ones_like(length2_N1)).sqrt()
    return x_ND / length_N1, length_N1, defined_N1
