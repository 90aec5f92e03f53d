"""Similarities: dot products and minus distances, against loops, and where points coincide."""

import pytest
import torch
from brute import MEASURES, assert_agree, embeddings, similarity, value_and_slope

from rhs.errors import UserError
from rhs.methods.similarity import check_measure, from_dots, matrix, rowwise


@pytest.fixture
def points():
    return embeddings()[0][:5], embeddings(seed=1)[0][:7]


@pytest.mark.parametrize("measure", MEASURES)
def test_of_every_two_points(points, measure):
    x, y = points
    expected = [[similarity(one, other, measure).item() for other in y] for one in x]
    torch.testing.assert_close(matrix(x, y, measure), torch.tensor(expected).double())


@pytest.mark.parametrize("measure", MEASURES)
def test_slopes_by_both_points(points, measure):
    x, y = points
    weight = torch.randn(5, 7, generator=torch.Generator().manual_seed(0)).double() + 3

    def loop(x, y):
        every = [[similarity(one, other, measure) for other in y] for one in x]
        return sum(weight[i, j] * every[i][j] for i in range(5) for j in range(7)) ** 2

    def ours(x, y):
        return (weight * matrix(x, y, measure)).sum() ** 2

    assert_agree(lambda x: ours(x, y), lambda x: loop(x, y), x)
    assert_agree(lambda y: ours(x, y), lambda y: loop(x, y), y)


@pytest.mark.parametrize("measure", MEASURES)
def test_row_by_row(points, measure):
    x, y = points[0], points[1][:5]
    expected = torch.stack([similarity(*pair, measure) for pair in zip(x, y, strict=True)])
    torch.testing.assert_close(rowwise(x, y, measure), expected)
    every = rowwise(x[:, None, :], points[1], measure)
    torch.testing.assert_close(every, matrix(x, points[1], measure))


@pytest.mark.parametrize("measure", MEASURES)
def test_from_dot_products_that_are_at_hand(points, measure):
    x, y = points
    torch.testing.assert_close(from_dots(x @ y.T, x, y, measure), matrix(x, y, measure))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("measure", MEASURES[1:])
def test_a_point_is_at_distance_zero_from_itself_without_gradient(measure, dtype):
    x = (10 * embeddings()[0]).to(dtype)
    value, slope = value_and_slope(lambda x: matrix(x, x, measure).diagonal().sum(), x)
    assert value == 0
    assert (slope == 0).all()
    value, slope = value_and_slope(lambda x: rowwise(x, x.detach(), measure).sum(), x)
    assert value == 0
    assert (slope == 0).all()


@pytest.mark.parametrize("measure", MEASURES[1:])
def test_points_that_rounding_cannot_tell_apart_are_at_distance_zero(measure):
    x = 100 * embeddings()[0][:3].float()
    near = x * (1 + 1e-6)
    value, slope = value_and_slope(lambda x: matrix(x, near, measure).diagonal().sum(), x)
    assert value == 0
    assert (slope == 0).all()


@pytest.mark.parametrize("measure", MEASURES[1:])
def test_slopes_in_single_precision_are_no_longer_than_those_of_distances(measure):
    """Of a distance the slope is 1 at most, however close two points are."""
    x = embeddings()[0][:6].float()
    for gap in (1e-1, 1e-2, 1e-3, 1e-4, 1e-6, 0.0):
        _, slope = value_and_slope(lambda x, y=x + gap: matrix(x, y, measure).diagonal().sum(), x)
        assert slope.isfinite().all()
        assert slope.norm(dim=1).max() < 1.5


@pytest.mark.parametrize("measure", MEASURES)
def test_no_points(measure):
    """A batch may have no pair."""
    none = torch.zeros(0, 4).requires_grad_()
    assert matrix(none, none, measure).shape == (0, 0)
    assert rowwise(none, none, measure).shape == (0,)


def test_a_measure_that_does_not_exist():
    assert check_measure("dot") == "dot"
    with pytest.raises(UserError, match=r"method\.measure is 'cosine'.*dot, euclidean"):
        check_measure("cosine")
