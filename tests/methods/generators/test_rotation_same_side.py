"""Rotations that begin late, and of some positives only."""

import math

import pytest
import torch
from random_batches import CLASSES, DIM, embeddings, value_and_gradient
from tiny_project import method_config, prepared

from rhs.errors import UserError
from rhs.methods.batch import Batch
from rhs.methods.generators import geometry
from rhs.methods.generators.rotation import GRADIENTS, SURFACES, Rotation

ROWS = 40


def triplets(seed: int = 0) -> list[torch.Tensor]:
    """Anchors, positives and centers."""
    random = torch.Generator().manual_seed(seed)
    return [torch.randn(ROWS, 4, generator=random, dtype=torch.float64) for _ in range(3)]


def changed(method: str, **generator) -> dict:
    config = dict(method_config(method))
    return config | {"generator": config["generator"] | generator}


FRACTIONS = {  # of Rotation(0.2, 0.8, delay=0.6) at a progress of 0, 0.59, 0.6, 0.7, 0.8 and 1
    "constant": [0, 0, 0.8, 0.8, 0.8, 0.8],
    "linear": [0, 0, 0.2, 0.35, 0.5, 0.8],
    "cosine": [0, 0, 0.2, 0.5 - 0.3 * math.sqrt(0.5), 0.5, 0.8],
}


@pytest.mark.parametrize("schedule", FRACTIONS)
def test_after_the_delay_the_schedule_runs_over_the_rest(schedule):
    late = Rotation(0.2, 0.8, schedule, delay=0.6)
    at = (0, 0.59, 0.6, 0.7, 0.8, 1)
    assert [late.fraction(progress) for progress in at] == pytest.approx(FRACTIONS[schedule])
    soon = Rotation(0.2, 0.8, schedule)
    for progress in (0.6, 0.7, 1.0):
        made, *_ = late.points(*triplets(), progress)
        expected, *_ = soon.points(*triplets(), (progress - 0.6) / 0.4)
        torch.testing.assert_close(made, expected)


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("gradient", GRADIENTS)
def test_until_then_the_points_are_the_positives_with_their_gradients(gradient, surface):
    points = [x.requires_grad_() for x in triplets()]
    made, moved, _ = Rotation(
        1.0, 1.0, "constant", surface=surface, gradient=gradient, delay=0.5
    ).points(*points, 0.49)
    assert made is points[1]
    assert moved.all()


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_until_then_the_loss_is_that_of_the_originals(gradient):
    late = prepared(changed("rhs_npair", delay=0.5, gradient=gradient), CLASSES, DIM)
    plain = prepared("npair", CLASSES, DIM)
    for seed in range(2):
        x, labels = embeddings(2, seed)
        loss, slope, told = value_and_gradient(late, x, labels, 0.49)
        expected = value_and_gradient(plain, x, labels, 0.49)
        torch.testing.assert_close(loss, expected[0])
        torch.testing.assert_close(slope, expected[1])
        assert told["synthetic_harder"] == 0
    assert value_and_gradient(late, x, labels, 0.51)[2]["synthetic_harder"] > 0


def test_nearer_than_the_spread_is_on_the_anchors_side_of_the_center():
    a = torch.tensor([[2.0, 0]]).repeat(4, 1)
    p = torch.tensor([[1.0, 1], [0.1, 5], [-0.1, 5], [-1, 1]])
    assert geometry.same_side(a, p, torch.zeros(4, 2)).tolist() == [True, True, False, False]
    a, p, c = triplets()
    squared = [(x - y).square().sum(1) for x, y in ((a, p), (a, c), (p, c))]
    chosen = geometry.same_side(a, p, c)
    assert torch.equal(chosen, squared[0] < squared[1] + squared[2])
    assert 0 < chosen.sum() < ROWS
    middle = (a + p) / 2  # where any two points are at opposite sides
    assert not geometry.same_side(a, p, middle).any()
    assert not geometry.same_side(a, p, a).any()


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("gradient", GRADIENTS)
def test_only_nearer_positives_are_rotated_and_the_others_keep_their_gradients(gradient, surface):
    settings = {"start": 0.7, "end": 0.7, "surface": surface, "gradient": gradient}
    slopes, values = [], []
    for only in ("all", "same_side"):
        points = [x.requires_grad_() for x in triplets()]
        made, moved, _ = Rotation(**settings, only=only).points(*points, 0.5)
        assert moved.all()
        random = torch.Generator().manual_seed(1)
        made.mul(torch.randn(ROWS, 4, generator=random)).sum().add(0 * sum(points).sum()).backward()
        slopes.append([point.grad for point in points])
        values.append(made)
    a, p, c = points
    chosen = geometry.same_side(a, p, c)
    assert torch.equal(values[1][chosen], values[0][chosen])
    assert torch.equal(values[1][~chosen], p[~chosen])
    random = torch.Generator().manual_seed(1)
    passed = torch.randn(ROWS, 4, generator=random).double()
    for one, other, own in zip(*slopes, (0 * passed, passed, 0 * passed), strict=True):
        torch.testing.assert_close(other[chosen], one[chosen])
        torch.testing.assert_close(other[~chosen], own[~chosen])


def test_it_tells_the_share_of_pairs_that_it_rotates():
    a, p, c = triplets()
    x = torch.cat([a, p])
    batch = Batch(x, x, torch.arange(ROWS).repeat(2), torch.cat([c, c]), normalized=False)
    rows = torch.arange(ROWS), torch.arange(ROWS, 2 * ROWS)
    told = Rotation(only="same_side")(batch, *rows, 1.0).diagnostics
    assert told["rotations_chosen"] == geometry.same_side(a, p, c).double().mean()
    assert told["rotations_unmoved"] == 0
    assert "rotations_chosen" not in Rotation()(batch, *rows, 1.0).diagnostics
    none = torch.empty(0, dtype=torch.long)
    assert Rotation(only="same_side")(batch, none, none, 1.0).diagnostics["rotations_chosen"] == 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"delay": 1}, r"generator\.delay is 1; it must be at least 0 and below 1\."),
        ({"delay": -0.1}, r"generator\.delay is -0\.1; it must be at least 0 and below 1\."),
        ({"delay": "late"}, r"generator\.delay is 'late'; it must be a number\."),
        ({"only": "near"}, r"generator\.only is 'near'.*all.*same_side"),
    ],
)
def test_settings_that_do_not_exist(wrong, message):
    with pytest.raises(UserError, match=message):
        Rotation(**wrong)
