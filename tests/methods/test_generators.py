"""The generators call the geometry with the right arguments at the right time."""

import pytest
import torch

from rhs.errors import UserError
from rhs.methods import geometry
from rhs.methods.generators import Rotation, Symmetric


@pytest.fixture
def points():
    random = torch.Generator().manual_seed(0)
    return [torch.randn(7, 4, generator=random).double() for _ in range(3)]


def test_the_default_rotation_is_the_papers_at_any_time(points):
    for progress in (0.0, 0.3, 1.0):
        torch.testing.assert_close(
            Rotation()(*points, progress), geometry.rotate(*points, 1.0), rtol=0, atol=0
        )


@pytest.mark.parametrize(
    ("progress", "fraction"), [(0.0, 0.2), (0.25, 0.35), (0.5, 0.5), (1.0, 0.8)]
)
def test_the_fraction_changes_linearly(points, progress, fraction):
    torch.testing.assert_close(
        Rotation(0.2, 0.8)(*points, progress), geometry.rotate(*points, fraction)
    )
    torch.testing.assert_close(
        Rotation(0.8, 0.2)(*points, progress), geometry.rotate(*points, 1 - fraction)
    )


def test_a_schedule_from_nothing_starts_with_the_positive(points):
    assert torch.equal(Rotation(0.0, 1.0)(*points, 0.0), points[1])
    torch.testing.assert_close(Rotation(0.0, 1.0)(*points, 1.0), geometry.rotate(*points))


@pytest.mark.parametrize(("start", "end"), [(-0.1, 1), (0, 1.1), (2, 0)])
def test_fractions_out_of_range(start, end):
    with pytest.raises(UserError, match=r"generator\.(start|end) is .*between 0 and 1"):
        Rotation(start, end)


def test_symmetric_mirrors_the_positive_about_the_anchor_and_needs_no_center(points):
    anchor, positive, _ = points
    assert not Symmetric.needs_centers
    torch.testing.assert_close(
        Symmetric()(anchor, positive, None, 0.5), geometry.reflect(positive, anchor)
    )
    torch.testing.assert_close(
        Symmetric(1.5, 0.5)(anchor, positive, None, 0.5),
        geometry.reflect(positive, anchor, 1.5, 0.5),
    )
