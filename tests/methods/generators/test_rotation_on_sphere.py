"""The rotation that stays on the unit sphere: about the axis of the class center."""

import math

import pytest
import torch
import torch.nn.functional as F

from rhs.methods.generators.geometry import reflect, rotate_on_sphere
from rhs.methods.ops.fused_rotation import MAX_LEVERAGE

DIM = 6


def triplets(n: int = 60, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Anchors and positives of unit length, centers of any."""
    random = torch.Generator().manual_seed(seed)
    a, p, c = (torch.randn(n, DIM, generator=random, dtype=torch.float64) for _ in range(3))
    return F.normalize(a), F.normalize(p), c


def angle(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return F.cosine_similarity(x, y).clamp(-1, 1).acos()


def full_rotation(a: list, p: list, c: list) -> list:
    """cos P h - sin P w: h the axis, P the positive's angle from it, w the anchor's side of it."""

    def dot(x, y):
        return sum(i * j for i, j in zip(x, y, strict=True))

    def unit(x):
        return [i / math.sqrt(dot(x, x)) for i in x]

    h = unit(c)
    w = unit([i - dot(a, h) * j for i, j in zip(a, h, strict=True)])
    cos = dot(p, h)
    sin = math.sqrt(1 - cos * cos)
    return [cos * i - sin * j for i, j in zip(h, w, strict=True)]


def test_the_full_rotation_against_its_formula_in_plain_numbers():
    points = triplets()
    expected = [full_rotation(*row) for row in zip(*(x.tolist() for x in points), strict=True)]
    torch.testing.assert_close(rotate_on_sphere(*points)[0], torch.tensor(expected).double())


@pytest.mark.parametrize("t", [0.2, 0.7, 1.0])
def test_length_and_angle_to_the_axis_stay_whatever_the_center_s_length(t):
    a, p, c = triplets(seed=1)
    moved = rotate_on_sphere(a, p, c, t)[0]
    torch.testing.assert_close(moved.norm(dim=1), torch.ones(60).double())
    torch.testing.assert_close(angle(moved, c), angle(p, c))
    torch.testing.assert_close(rotate_on_sphere(a, p, 7 * c, t)[0], moved)


def test_the_angles_from_the_axis_add_up_and_no_point_of_the_circle_is_harder():
    a, p, c = triplets(seed=2)
    far, near = angle(a, c), angle(p, c)
    dots = (a * rotate_on_sphere(a, p, c)[0]).sum(1)
    torch.testing.assert_close(dots, (far + near).cos())
    assert (dots < (a * p).sum(1)).all()
    within = far + near <= math.pi
    assert within.any()
    torch.testing.assert_close(angle(a, rotate_on_sphere(a, p, c)[0])[within], (far + near)[within])
    axis = F.normalize(c)
    random = torch.Generator().manual_seed(0)
    for _ in range(50):  # other points at the positive's angle from the axis
        across = torch.randn(60, DIM, generator=random, dtype=torch.float64)
        across = F.normalize(across - (across * axis).sum(1, keepdim=True) * axis)
        other = near.cos()[:, None] * axis + near.sin()[:, None] * across
        assert ((a * other).sum(1) >= dots).all()


def test_partial_rotations_grow_harder_from_the_positive_on():
    a, p, c = triplets(seed=3)
    torch.testing.assert_close(rotate_on_sphere(a, p, c, 0.0)[0], p)
    torch.testing.assert_close(rotate_on_sphere(a, p, c, 1e-9)[0], p, rtol=0, atol=1e-7)
    before = (a * p).sum(1)
    for t in (0.1, 0.25, 0.5, 0.75, 0.999, 1.0):
        dots = (a * rotate_on_sphere(a, p, c, t)[0]).sum(1)
        assert (dots < before).all()
        before = dots


def test_a_point_rotated_away_from_itself_is_mirrored_about_the_center():
    """So Symmetrical Synthesis is this rotation with the other sample as the center."""
    x, y, _ = triplets(seed=4)
    torch.testing.assert_close(rotate_on_sphere(x, x, y)[0], reflect(x, y))


@pytest.mark.parametrize("t", [0.4, 1.0])
def test_it_turns_along_with_its_points(t):
    a, p, c = triplets(seed=5)
    turn, _ = torch.linalg.qr(triplets(n=DIM, seed=6)[0])
    moved = rotate_on_sphere(a, p, c, t)[0]
    torch.testing.assert_close(rotate_on_sphere(a @ turn, p @ turn, c @ turn, t)[0], moved @ turn)


@pytest.mark.parametrize("t", [0.4, 1.0])
def test_slopes_agree_with_finite_differences(t):
    points = [x.clone().requires_grad_() for x in triplets(n=3, seed=7)]
    assert torch.autograd.gradcheck(lambda *given: rotate_on_sphere(*given, t)[0], points)


@pytest.mark.parametrize("off", [1.0, 0.3, 1e-2, 1e-4, 1e-5])
def test_an_anchor_near_the_axis_has_a_bounded_pull(off):
    a, p, c = triplets(n=1, seed=8)
    axis = F.normalize(c)
    across = F.normalize(a - (a * axis).sum() * axis)
    a = math.cos(off) * axis + math.sin(off) * across
    cos = (p * axis).sum()
    torch.testing.assert_close(
        rotate_on_sphere(a, p, c)[0], cos * axis - (1 - cos**2).sqrt() * across
    )
    by_a, by_p, _ = torch.autograd.functional.jacobian(
        lambda *given: rotate_on_sphere(*given)[0].sum(0), (a, p, c)
    )
    assert torch.linalg.matrix_norm(by_a[:, 0], 2) <= MAX_LEVERAGE
    assert torch.linalg.matrix_norm(by_p[:, 0], 2) <= 1 + 1e-9


DEGENERATE = {  # anchor, positive, center, and where the full rotation puts the positive
    "the center is the origin": ((1, 0, 0), (0, 1, 0), (0, 0, 0), (0, 1, 0)),
    "the anchor is on the axis": ((0, 0, 1), (0, 1, 0), (0, 0, 2), (0, 1, 0)),
    "the anchor is across the origin": ((0, 0, -1), (0.6, 0, 0.8), (0, 0, 2), (0.6, 0, 0.8)),
    "the positive is on the axis": ((1, 0, 0), (0, 0, 1), (0, 0, 3), (0, 0, 1)),
    "both are on the axis": ((0, 0, 1), (0, 0, 1), (0, 0, 1), (0, 0, 1)),
    "anchor and positive are one": ((0.6, 0, 0.8), (0.6, 0, 0.8), (0, 0, 1), (-0.6, 0, 0.8)),
    "there already": ((0.6, 0, 0.8), (-0.6, 0, 0.8), (0, 0, 1), (-0.6, 0, 0.8)),
    "all are the origin": ((0, 0, 0), (0, 0, 0), (0, 0, 0), (0, 0, 0)),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("t", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("case", DEGENERATE)
def test_values_and_slopes_are_finite_where_directions_are_undefined(case, t, dtype):
    *points, expected = (torch.tensor([x], dtype=dtype) for x in DEGENERATE[case])
    points = [point.requires_grad_() for point in points]
    moved = rotate_on_sphere(*points, t)[0]
    if t == 1.0:
        torch.testing.assert_close(moved, expected)
    torch.testing.assert_close(moved.norm(), points[1].norm())
    (moved * torch.tensor([[1.0, -2.0, 3.0]], dtype=dtype)).sum().backward()
    for point in points:
        assert point.grad is None or torch.isfinite(point.grad).all()


@pytest.mark.parametrize("t", [0.4, 1.0])
@pytest.mark.parametrize("length", [1e-1, 1e-2, 1e-3, 1e-5])
def test_a_center_near_the_origin_has_a_bounded_pull(length, t):
    """The axis is a constant there, so that the center has no pull at all below 1 / LEVER."""
    a, p, c = triplets(n=8, seed=9)
    c = length * F.normalize(c)
    for i in range(8):
        given = tuple(x[i : i + 1] for x in (a, p, c))
        slopes = torch.autograd.functional.jacobian(
            lambda *given: rotate_on_sphere(*given, t)[0].sum(0), given
        )
        norms = [torch.linalg.matrix_norm(by[:, 0], 2) for by in slopes]
        assert all(norm <= 4 * MAX_LEVERAGE for norm in norms)
        if length < 0.99 / MAX_LEVERAGE:
            assert norms[2] == 0
