"""Moving points about: the rotation of RHS-DML and the reflection of Symmetrical Synthesis.

All functions work row by row on [N, D] tensors in the tensors' own precision, and have finite
gradients everywhere, also where points coincide.
"""

import torch

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
    is above LEVER, v is taken as a constant.

    Args:
        anchor_ND, positive_ND, center_ND: [N, D], one triplet a row.
        fraction: 0 (unchanged) to 1 (the full rotation).

    Returns:
        [N, D] rotated positives.

    Source: Zhang, Yan, Wei and Liang, J. Shanxi Univ. (Nat. Sci.) 47(5), 2024 (the full rotation);
    the partial one is derived here.
    """
    if fraction == 0.0:
        return positive_ND
    v_ND, s_N1, has_v_N1 = _direction(center_ND - anchor_ND)
    u_ND, r_N1, has_u_N1 = _direction(positive_ND - center_ND)
    v_ND = torch.where(r_N1 > LEVER * s_N1, v_ND.detach(), v_ND)
    q_ND = v_ND if fraction == 1.0 else _slerp(u_ND, v_ND, fraction)
    apart_N1 = (u_ND - v_ND).square().sum(1, keepdim=True) > UNMOVED**2
    return torch.where(has_v_N1 & has_u_N1 & apart_N1, center_ND + r_N1 * q_ND, positive_ND)


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
    axis_ND, _, has_axis_N1 = _direction(center_ND)
    along_N1 = (positive_ND * axis_ND).sum(1, keepdim=True)
    p_across_ND = positive_ND - along_N1 * axis_ND
    a_across_ND = anchor_ND - (anchor_ND * axis_ND).sum(1, keepdim=True) * axis_ND
    turned_ND = rotate(a_across_ND, p_across_ND, torch.zeros_like(axis_ND), fraction)
    return torch.where(has_axis_N1, along_N1 * axis_ND + turned_ND, positive_ND)


def rotation_angle(
    anchor_ND: torch.Tensor, positive_ND: torch.Tensor, center_ND: torch.Tensor
) -> torch.Tensor:
    """The angle [N], in radians, by which the full rotation moves each positive; 0 if undefined."""
    v_ND, _, has_v_N1 = _direction(center_ND - anchor_ND)
    u_ND, _, has_u_N1 = _direction(positive_ND - center_ND)
    # atan2 of half-chords keeps small angles that acos of a dot product would round to 0.
    angle_N = 2 * torch.atan2((u_ND - v_ND).norm(dim=1), (u_ND + v_ND).norm(dim=1))
    return torch.where((has_v_N1 & has_u_N1).squeeze(1), angle_N, torch.zeros_like(angle_N))


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


def _slerp(u_ND: torch.Tensor, v_ND: torch.Tensor, fraction: float) -> torch.Tensor:
    """The unit vector `fraction` of the way from u to v on their great circle."""
    cos_N1 = (u_ND * v_ND).sum(1, keepdim=True)
    w_ND, sin_N1, has_plane_N1 = _direction(u_ND - cos_N1 * v_ND)
    has_plane_N1 = has_plane_N1 & (sin_N1 > UNMOVED)  # closer, w is made of rounding errors
    rest_N1 = (1 - fraction) * torch.atan2(sin_N1, cos_N1)  # the angle left to v
    q_ND = rest_N1.cos() * v_ND + rest_N1.sin() * w_ND
    # Without a plane u is v already, or its opposite: v is right for both.
    return torch.where(has_plane_N1, q_ND, v_ND)
