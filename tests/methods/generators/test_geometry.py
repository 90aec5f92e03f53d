"""The rotation: golden values, identities, slopes, and where points coincide."""

import math

import pytest
import torch

from rhs.methods.generators.geometry import rotate, rotation
from rhs.methods.ops.fused_rotation import MAX_LEVERAGE, UNMOVED


def rows(*points: tuple[float, ...], dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    return [torch.tensor([point], dtype=dtype) for point in points]


def triplets(n: int = 50, dim: int = 6, seed: int = 0) -> tuple[torch.Tensor, ...]:
    random = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(n, dim, generator=random, dtype=torch.float64) for _ in range(3))


def lengths(a, p, c) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """s = |a - c|, r = |p - c| and the angle between p - c and c - a, [N] each."""
    s, r = (a - c).norm(dim=1), (p - c).norm(dim=1)
    cos = ((p - c) * (c - a)).sum(1) / (s * r)
    return s, r, cos.clamp(-1, 1).acos()


@pytest.mark.parametrize(
    ("a", "p", "c", "expected", "distance"),
    [
        ((2, 0), (0, 1), (0, 0), (-1, 0), 3),
        ((3, 1), (1, 4), (1, 1), (-2, 1), 5),
    ],
)
def test_golden_rotations(a, p, c, expected, distance):
    a, p, c, expected = rows(a, p, c, expected)
    torch.testing.assert_close(rotate(a, p, c)[0], expected)
    torch.testing.assert_close((a - rotate(a, p, c)[0]).norm(), torch.tensor(distance).double())


def test_the_rotation_is_the_farthest_point_of_its_sphere():
    a, p, c = triplets()
    s, r, _ = lengths(a, p, c)
    moved = rotate(a, p, c)[0]
    torch.testing.assert_close((moved - c).norm(dim=1), r)
    torch.testing.assert_close((a - moved).norm(dim=1), s + r)
    assert ((a - moved).norm(dim=1) >= (a - p).norm(dim=1)).all()
    # a, c and p' on one line, c between
    torch.testing.assert_close(moved - c, (c - a) * (r / s)[:, None])


def test_identities_of_norm_dot_product_and_distance():
    a, p, c = triplets(seed=1)
    s, r, omega = lengths(a, p, c)
    moved, u, v = rotate(a, p, c)[0], (p - c) / r[:, None], (c - a) / s[:, None]
    torch.testing.assert_close(
        moved.square().sum(1) - p.square().sum(1), 2 * r * (c * (v - u)).sum(1)
    )
    torch.testing.assert_close(
        (a * (moved - p)).sum(1), r * (c * (v - u)).sum(1) - s * r * (1 - omega.cos())
    )
    torch.testing.assert_close(
        (a - moved).square().sum(1) - (a - p).square().sum(1), 2 * s * r * (1 - omega.cos())
    )


def test_partial_rotation_has_the_closed_form_and_grows_harder():
    a, p, c = triplets(seed=2)
    s, r, omega = lengths(a, p, c)
    before = (a - p).norm(dim=1)
    for t in (0.1, 0.25, 0.5, 0.75, 0.999, 1.0):
        moved = rotate(a, p, c, t)[0]
        squared = s**2 + r**2 + 2 * s * r * torch.cos((1 - t) * omega)
        torch.testing.assert_close((a - moved).square().sum(1), squared)
        torch.testing.assert_close((moved - c).norm(dim=1), r)
        assert ((a - moved).norm(dim=1) > before).all()
        before = (a - moved).norm(dim=1)


def test_no_rotation_is_the_positive_itself_and_the_limit_of_small_ones():
    a, p, c = triplets(seed=3)
    assert torch.equal(rotate(a, p, c, 0.0)[0], p)
    torch.testing.assert_close(rotate(a, p, c, 1e-9)[0], p, rtol=0, atol=1e-7)
    torch.testing.assert_close(
        rotate(a, p, c, 1 - 1e-9)[0], rotate(a, p, c, 1.0)[0], rtol=0, atol=1e-7
    )


@pytest.mark.parametrize("t", [0.3, 1.0])
def test_rotation_moves_along_with_its_points(t):
    a, p, c = triplets(seed=4)
    shift = triplets(n=1, seed=12)[0]
    turn, _ = torch.linalg.qr(triplets(n=6, seed=13)[0])
    moved = rotate(a, p, c, t)[0]
    torch.testing.assert_close(rotate(a + shift, p + shift, c + shift, t)[0], moved + shift)
    torch.testing.assert_close(rotate(a @ turn, p @ turn, c @ turn, t)[0], moved @ turn)
    torch.testing.assert_close(rotate(3 * a, 3 * p, 3 * c, t)[0], 3 * moved)


def jacobians(a, p, c, t: float) -> tuple[torch.Tensor, ...]:
    """[D, D] slopes of the first row's rotation with respect to its anchor, positive and center."""

    def one(a_D, p_D, c_D):
        return rotate(a_D[None], p_D[None], c_D[None], t)[0][0]

    return torch.autograd.functional.jacobian(one, (a[0], p[0], c[0]))


@pytest.mark.parametrize("t", [0.05, 0.4, 0.9, 1.0])
def test_slopes_agree_with_finite_differences_and_sum_to_the_identity(t):
    a, p, c = triplets(n=4, seed=5)
    points = [x.clone().requires_grad_() for x in (a, p, c)]
    assert torch.autograd.gradcheck(lambda *points: rotate(*points, t)[0], points)
    torch.testing.assert_close(sum(jacobians(a, p, c, t)), torch.eye(6, dtype=torch.float64))


def test_slopes_of_the_full_rotation():
    a, p, c = triplets(n=1, seed=6)
    s, r, _ = lengths(a, p, c)
    u, v = ((p - c) / r)[0], ((c - a) / s)[0]
    across = torch.eye(6, dtype=torch.float64) - torch.outer(v, v)
    by_a, by_p, by_c = jacobians(a, p, c, 1.0)
    torch.testing.assert_close(by_a, -(r / s) * across)
    torch.testing.assert_close(by_p, torch.outer(v, u))
    torch.testing.assert_close(
        by_c, torch.eye(6, dtype=torch.float64) - torch.outer(v, u) + (r / s) * across
    )


@pytest.mark.parametrize("s", [1.0, 0.2, 0.11, 0.09, 1e-3, 1e-5])
def test_an_anchor_near_its_center_has_a_bounded_pull(s):
    """The slope by the anchor grows as r / s, up to LEVER; the value does not see that bound."""
    a, p, c = triplets(n=1, seed=14)
    v = torch.nn.functional.normalize(c - a)
    a, p = c - s * v, c + torch.nn.functional.normalize(p - c)
    torch.testing.assert_close(rotate(a, p, c)[0], c + v)
    by_a, by_p, by_c = jacobians(a, p, c, 1.0)
    across = torch.eye(6, dtype=torch.float64) - torch.outer(v[0], v[0])
    steep = 0.0 if 1 / s > MAX_LEVERAGE else 1 / s
    torch.testing.assert_close(by_a, -steep * across)
    torch.testing.assert_close(by_p, torch.outer(v[0], (p - c)[0]))
    torch.testing.assert_close(by_a + by_p + by_c, torch.eye(6, dtype=torch.float64))
    torch.testing.assert_close(
        rotate(a, p, c, 0.5)[0], rotate(c - v, p, c, 0.5)[0]
    )  # s is of no matter
    by_a, by_p, by_c = jacobians(a, p, c, 0.5)
    assert (by_a != 0).any() == (steep > 0)
    torch.testing.assert_close(by_p, jacobians(c - v, p, c, 0.5)[1])
    torch.testing.assert_close(by_a + by_p + by_c, torch.eye(6, dtype=torch.float64))


DEGENERATE = {
    "anchor is center": ((1, 2, 0), (0, 1, 1), (1, 2, 0), (0, 1, 1)),
    "positive is center": ((1, 2, 0), (0, 1, 1), (0, 1, 1), (0, 1, 1)),
    "all are one point": ((1, 2, 0), (1, 2, 0), (1, 2, 0), (1, 2, 0)),
    "all are the origin": ((0, 0, 0), (0, 0, 0), (0, 0, 0), (0, 0, 0)),
    # p on the anchor's side of the center, at twice its distance, then half of it
    "u is -v": ((1, 0, 0), (2, 0, 0), (0, 0, 0), (-2, 0, 0)),
    "u is -v, near": ((1, 1, 0), (0.5, 0.5, 0), (0, 0, 0), (-0.5, -0.5, 0)),
    "u is v": ((1, 0, 0), (-3, 0, 0), (0, 0, 0), (-3, 0, 0)),
    "anchor is positive": ((1, 2, 0), (1, 2, 0), (0, 0, 1), (-1, -2, 2)),  # the point reflection
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("t", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("case", DEGENERATE)
def test_values_and_slopes_are_finite_where_points_coincide(case, t, dtype):
    *points, expected = rows(*DEGENERATE[case], dtype=dtype)
    points = [point.requires_grad_() for point in points]
    moved = rotate(*points, t)[0]
    if t == 1.0:
        torch.testing.assert_close(moved, expected)
    # whatever the plane, it stays on its sphere
    torch.testing.assert_close((moved - points[2]).norm(), (points[1] - points[2]).norm())
    (moved * torch.tensor([[1.0, -2.0, 3.0]], dtype=dtype)).sum().backward()
    for point in points:
        assert point.grad is None or torch.isfinite(point.grad).all()


@pytest.mark.parametrize("off", [3e-6, 1e-5, 1e-4, 1e-3])
@pytest.mark.parametrize("t", [0.25, 0.5, 0.9])
def test_almost_opposite_directions_stay_on_the_sphere_in_single_precision(off, t):
    """Where the plane of the rotation is hardly defined, its normal must still be a unit vector."""
    random = torch.Generator().manual_seed(0)
    v = torch.nn.functional.normalize(torch.randn(200, 64, generator=random))
    across = torch.randn(200, 64, generator=random)
    across = torch.nn.functional.normalize(across - (across * v).sum(1, keepdim=True) * v)
    c = torch.zeros_like(v)
    p = 0.7 * (-math.cos(off) * v + math.sin(off) * across)
    moved = rotate(-v, p, c, t)[0]
    torch.testing.assert_close(moved.norm(dim=1), torch.full((200,), 0.7), rtol=1e-3, atol=0)


def test_midpoint_of_the_pair_makes_the_rotation_the_identity():
    a, p, _ = triplets(seed=7)
    c = (a + p) / 2
    torch.testing.assert_close(rotate(a, p, c)[0], p)
    # p itself comes back, not p' that rounding made
    assert torch.equal(rotate(a.float(), p.float(), c.float())[0], p.float())


@pytest.mark.parametrize("spread", [1.0, 0.1, 0.01, 0.003])
def test_it_stays_the_identity_in_single_precision_however_tight_the_class(spread):
    """Rounding grows with the number of dimensions and with the common part of the points."""
    random = torch.Generator().manual_seed(0)
    middle, *apart = (torch.randn(1000, 512, generator=random) for _ in range(3))
    a, p = (torch.nn.functional.normalize(middle + spread * x) for x in apart)
    moved, told = rotate(a, p, (a + p) / 2)
    assert not told.any()
    assert torch.equal(moved, p)


def test_it_tells_which_rows_a_full_rotation_moves():
    a, p, c = triplets(n=5, seed=15)
    a[1], a[3], p[4] = c[1], 2 * c[3] - p[3], c[4]  # no angle, the midpoint, no angle
    for t in (0.0, 0.5, 1.0):
        moved, told = rotate(a, p, c, t)
        assert told.tolist() == [True, False, True, False, False]
        assert torch.equal((moved != p).any(1), told & (t > 0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rotations_count_as_moved_from_a_thousandth_of_a_radian(dtype):
    angles = torch.tensor([0.0, 0.5, 0.99, 1.01, 2.0, 1000.0], dtype=dtype) * UNMOVED
    p = torch.stack([angles.cos(), angles.sin()], dim=1)
    a, c = torch.tensor([[-2.0, 0.0]], dtype=dtype).expand(6, 2), torch.zeros(6, 2, dtype=dtype)
    for t in (0.5, 1.0):
        assert rotate(a, p, c, t)[1].tolist() == [False] * 3 + [True] * 3


@pytest.mark.parametrize("t", [0.25, 0.5, 0.9])
@pytest.mark.parametrize("off", [0.5, 0.1, 0.03, 0.003])
def test_slopes_of_partial_rotations_stay_bounded_near_the_anchors_side(t, off):
    """Where u is almost -v, a small step of the positive swings it far about the center."""
    p = torch.tensor([[math.cos(off), math.sin(off), 0.0]], dtype=torch.float64)
    a, c = rows((1, 0, 0), (0, 0, 0))
    for slope in jacobians(a, p, c, t):
        assert torch.linalg.matrix_norm(slope, 2) < 4 * MAX_LEVERAGE


def test_rounding_far_from_the_unit_sphere_is_no_rotation():
    """Without a sample, the mean of two is the other one, 30 times as far out or not."""
    random = torch.Generator().manual_seed(0)
    for scale in (1.0, 30.0):
        a, p = (
            scale * torch.nn.functional.normalize(torch.randn(200, 64, generator=random))
            for _ in range(2)
        )
        center = (a + p) - p  # but for rounding the anchor
        moved, told = rotate(a, p, center)
        assert not told.any()
        assert torch.equal(moved, p)


@pytest.mark.parametrize("t", [0.1, 0.5, 0.9, 1.0])
def test_the_fused_rotation_is_the_plain_one(t):
    a, p, c, weights = torch.randn(4, 40, 5, generator=torch.Generator().manual_seed(3)).double()
    lever = (p - c).norm(dim=1) < MAX_LEVERAGE * (c - a).norm(dim=1)
    assert lever.all()
    points = [x.clone().requires_grad_() for x in (a, p, c)]
    fused, moved = rotate(*points, t)
    plain = rotation(*points, t)
    assert moved.all()
    torch.testing.assert_close(fused, plain, rtol=1e-12, atol=1e-12)
    slopes = torch.autograd.grad((weights * fused).sum(), points)
    expected = torch.autograd.grad((weights * plain).sum(), points)
    # Beyond MAX_LEVERAGE a partial rotation has the slopes of the full one.
    cos = torch.nn.functional.cosine_similarity(p - c, c - a)
    steep = (torch.sin((1 - t) * cos.acos()) / cos.acos().sin()) > MAX_LEVERAGE
    for slope, other in zip(slopes, expected, strict=True):
        torch.testing.assert_close(slope[~steep], other[~steep], rtol=1e-9, atol=1e-10)
    assert steep.double().mean() < 0.1
