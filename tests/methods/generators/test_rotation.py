"""The generators call the geometry with the right points at the right time."""

import math

import pytest
import torch
import torch.nn.functional as F

from rhs.errors import UserError
from rhs.methods.batch import Batch
from rhs.methods.generators import geometry
from rhs.methods.generators.rotation import Rotation
from rhs.methods.generators.symmetric import Symmetric

ANCHOR, POSITIVE = torch.tensor([0, 4, 2, 5]), torch.tensor([1, 3, 0, 4])


def batch(seed: int = 0) -> Batch:
    random = torch.Generator().manual_seed(seed)
    x, centers = (torch.randn(6, 4, generator=random, dtype=torch.float64) for _ in range(2))
    labels = torch.tensor([3, 3, 3, 8, 8, 8])
    return Batch(x.requires_grad_(), x, labels, centers.requires_grad_(), normalized=False)


def triplets(seed: int = 0) -> list[torch.Tensor]:
    """Anchors, positives and centers [7, 4]."""
    random = torch.Generator().manual_seed(seed)
    return [torch.randn(7, 4, generator=random, dtype=torch.float64) for _ in range(3)]


def test_a_rotation_makes_one_point_a_pair_of_its_rows_and_the_anchor_s_center():
    given = batch()
    made = Rotation()(given, ANCHOR, POSITIVE, 0.5)
    expected = geometry.rotate(given.x_BD[ANCHOR], given.x_BD[POSITIVE], given.centers_BD[ANCHOR])[
        0
    ]
    torch.testing.assert_close(made.x_MD, expected)
    assert made.labels_M.tolist() == [3, 8, 3, 8]
    assert made.parent_M.tolist() == POSITIVE.tolist()
    assert made.anchor_M.tolist() == ANCHOR.tolist()
    assert made.weights_M2 is None


@pytest.mark.parametrize("fraction", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("surface", ["euclidean", "renormalized", "spherical"])
def test_it_tells_the_share_of_pairs_that_no_rotation_moves(surface, fraction):
    given, made = batch(), Rotation(fraction, fraction, surface=surface)
    assert made(given, ANCHOR, POSITIVE, 0.5).diagnostics["rotations_unmoved"] == 0
    with torch.no_grad():
        given.centers_BD[0] = (given.x_BD[0] + given.x_BD[1]) / 2  # the midpoint of the first pair
        given.centers_BD[5] = given.x_BD[4]  # the positive of the last
    assert made(given, ANCHOR, POSITIVE, 0.5).diagnostics["rotations_unmoved"] == 0.5
    none = torch.empty(0, dtype=torch.long)
    assert made(given, none, none, 0.5).diagnostics["rotations_unmoved"] == 0


def test_the_default_rotation_is_the_papers_at_any_time():
    points = triplets()
    for progress in (0.0, 0.3, 1.0):
        made, *_ = Rotation().points(*points, progress)
        torch.testing.assert_close(made, geometry.rotate(*points, 1.0)[0], rtol=0, atol=0)


FRACTIONS = {  # of Rotation(0.2, 0.8) at a progress of 0, 1/4, 1/2, 3/4 and 1
    "constant": [0.8, 0.8, 0.8, 0.8, 0.8],
    "linear": [0.2, 0.35, 0.5, 0.65, 0.8],
    "cosine": [0.2, 0.5 - 0.3 * math.sqrt(0.5), 0.5, 0.5 + 0.3 * math.sqrt(0.5), 0.8],
}


@pytest.mark.parametrize("schedule", FRACTIONS)
def test_the_fraction_follows_its_schedule_up_and_down(schedule):
    up, down = Rotation(0.2, 0.8, schedule), Rotation(0.8, 0.2, schedule)
    points = triplets()
    for progress, fraction in zip((0, 0.25, 0.5, 0.75, 1), FRACTIONS[schedule], strict=True):
        assert up.fraction(progress) == pytest.approx(fraction)
        assert down.fraction(progress) == pytest.approx(1 - fraction)
        made, *_ = up.points(*points, progress)
        torch.testing.assert_close(made, geometry.rotate(*points, fraction)[0])


def test_a_schedule_from_nothing_starts_with_the_positive():
    points = triplets()
    first, last = (Rotation(0.0, 1.0).points(*points, progress)[0] for progress in (0.0, 1.0))
    assert torch.equal(first, points[1])
    torch.testing.assert_close(last, geometry.rotate(*points)[0])


def test_the_three_surfaces():
    a, p, c = triplets()
    a, p = F.normalize(a), F.normalize(p)
    flat, back, on_sphere = (
        Rotation(0.7, 0.7, surface=surface).points(a, p, c, 0.5)[0]
        for surface in ("euclidean", "renormalized", "spherical")
    )
    one = torch.ones(7, dtype=torch.float64)
    torch.testing.assert_close(flat, geometry.rotate(a, p, c, 0.7)[0])
    assert not torch.allclose(flat.norm(dim=1), one)
    torch.testing.assert_close(back.norm(dim=1), one)
    torch.testing.assert_close(back * flat.norm(dim=1, keepdim=True), flat)
    torch.testing.assert_close(on_sphere, geometry.rotate_on_sphere(a, p, c, 0.7)[0])
    torch.testing.assert_close(on_sphere.norm(dim=1), one)


PASSES = {  # which of anchor, positive and center the synthetic point moves
    "full": (True, True, True),
    "center_detached": (True, True, False),
    "positive": (False, True, False),
    "anchor": (False, False, False),
}


@pytest.mark.parametrize("gradient", PASSES)
def test_each_gradient_mode_reaches_what_it_says_with_the_slopes_of_the_formula(gradient):
    """Of p' = c + r v, for a gradient g on it: by p is u (v.g), by a -(r/s)(g - v (v.g)), by c
    g - by p - by a."""
    a, p, c = points = [x.requires_grad_() for x in triplets(seed=1)]
    g = torch.randn(7, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    made, *_ = Rotation(gradient=gradient).points(*points, 0.5)
    torch.testing.assert_close(made, geometry.rotate(*points)[0])  # the value is that of all modes
    (g * (made + 0 * (a + p + c))).sum().backward()
    for i in range(7):
        s, r = (a[i] - c[i]).norm(), (p[i] - c[i]).norm()
        u, v = (p[i] - c[i]) / r, (c[i] - a[i]) / s
        by_p = u * (v @ g[i])
        by_a = -(r / s) * (g[i] - v * (v @ g[i]))
        slopes = (by_a, by_p, g[i] - by_p - by_a)
        for point, slope, passes in zip(points, slopes, PASSES[gradient], strict=True):
            torch.testing.assert_close(point.grad[i], slope * passes)


@pytest.mark.parametrize("surface", ["euclidean", "renormalized", "spherical"])
@pytest.mark.parametrize("gradient", PASSES)
def test_gradient_modes_hold_on_every_surface_and_for_rows_of_a_batch(gradient, surface):
    given = batch(seed=3)
    rows = torch.tensor([0]), torch.tensor([1])
    made = Rotation(0.6, 0.6, surface=surface, gradient=gradient)(given, *rows, 0.5)
    made.x_MD.sum().add(0 * (given.x_BD.sum() + given.centers_BD.sum())).backward()
    moved = (given.x_BD.grad[0], given.x_BD.grad[1], given.centers_BD.grad[0])
    assert tuple(bool(slope.abs().max() > 1e-3) for slope in moved) == PASSES[gradient]
    assert (given.x_BD.grad[2:] == 0).all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"start": -0.1}, r"generator\.start is -0\.1; .* at least 0 and at most 1\."),
        ({"end": 1.1}, r"generator\.end is 1\.1; it must be a number"),
        ({"start": math.nan}, r"generator\.start is nan"),
        ({"schedule": "late"}, r"generator\.schedule is 'late'.*constant.*linear.*cosine"),
        ({"surface": "flat"}, r"generator\.surface is 'flat'.*euclidean.*spherical"),
        ({"gradient": "none"}, r"generator\.gradient is 'none'.*full.*center_detached"),
    ],
)
def test_settings_that_do_not_exist(wrong, message):
    with pytest.raises(UserError, match=message):
        Rotation(**wrong)


def test_symmetric_mirrors_the_positive_about_the_anchor_and_needs_no_center():
    given = batch()
    a, p = given.x_BD[ANCHOR], given.x_BD[POSITIVE]
    given.centers_BD = None
    assert not Symmetric.needs_centers
    made = Symmetric()(given, ANCHOR, POSITIVE, 0.5)
    torch.testing.assert_close(made.x_MD, geometry.reflect(p, a))
    assert made.labels_M.tolist() == [3, 8, 3, 8]
    assert made.parent_M.tolist() == POSITIVE.tolist()
    assert made.anchor_M.tolist() == ANCHOR.tolist()
    for kept in ((made.x_MD, p), (a - made.x_MD, a - p)):  # lengths, and distances to the anchor
        torch.testing.assert_close(kept[0].norm(dim=1), kept[1].norm(dim=1))
    torch.testing.assert_close((a * made.x_MD).sum(1), (a * p).sum(1))


@pytest.mark.parametrize(("alpha", "beta"), [(2.0, 1.0), (1.5, 0.5), (2.5, 1.5)])
def test_the_weights_of_symmetric_points_reproduce_them(alpha, beta):
    given = batch()
    with torch.no_grad():
        given.x_BD[5] = 0  # an anchor without a direction
    made = Symmetric(alpha, beta)(given, ANCHOR, POSITIVE, 0.5)
    a, p = given.x_BD[ANCHOR], given.x_BD[POSITIVE]
    combined = made.weights_M2[:, :1] * a + made.weights_M2[:, 1:] * p
    torch.testing.assert_close(combined, made.x_MD)
    torch.testing.assert_close(made.x_MD, geometry.reflect(p, a, alpha, beta))
    g = torch.arange(16.0).reshape(4, 4).double()
    one, other = (
        torch.autograd.grad((g * x).sum(), given.x_BD, retain_graph=True)[0]
        for x in (made.x_MD, combined)
    )
    torch.testing.assert_close(one, other)
    assert one.abs().max() > 0
