"""Similarities: dot products and minus distances, against loops, and where points coincide."""

import pytest
import torch
from brute_force_losses import DIM, MEASURES, assert_agree, embeddings, similarity, value_and_slope

from rhs.errors import UserError
from rhs.methods.similarity import check_measure, from_squared, matrix, rowwise


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


@pytest.mark.parametrize("measure", MEASURES[1:])
def test_from_squared_distances_that_are_at_hand(points, measure):
    x, y = points
    lengths = x.square().sum(1)[:, None] + y.square().sum(1)[None, :]
    made = from_squared(lengths - 2 * x @ y.T, lengths, measure)
    torch.testing.assert_close(made, matrix(x, y, measure))


def value_and_slopes(x, measure):
    """Of all distances between these points but those to themselves, row by row weighted."""
    weight = torch.randn(len(x), len(x), generator=torch.Generator().manual_seed(1)).to(x) + 3
    return value_and_slope(lambda x: (weight * matrix(x, x, measure)).sum(), x)


@pytest.mark.parametrize("measure", MEASURES[1:])
def test_in_single_precision_far_from_the_origin(measure):
    """Points 10 away from it and about 0.01 from each other."""
    random = torch.Generator().manual_seed(0)
    middle = torch.randn(DIM, generator=random)
    x = 10 * middle / middle.norm() + 0.003 * torch.randn(8, DIM, generator=random)
    exact = matrix(x.double(), x.double(), measure)
    off = ~torch.eye(8, dtype=torch.bool)
    apart = (x[:, None] - x).norm(dim=2)[off]
    assert 0.003 < apart.min() < apart.max() < 0.03
    single = matrix(x, x, measure)
    torch.testing.assert_close(single[off].double(), exact[off], rtol=1e-3, atol=0)
    slope, exact_slope = (value_and_slopes(given, measure)[1] for given in (x, x.double()))
    assert (slope - exact_slope).norm() < 1e-3 * exact_slope.norm()


@pytest.mark.parametrize("length", [10.0, 100.0])
@pytest.mark.parametrize("measure", MEASURES[1:])
def test_one_very_long_vector_does_not_blunt_the_others(measure, length):
    """Their distances among themselves have the slopes that they have without it."""
    x = torch.nn.functional.normalize(embeddings()[0][:8]).float()
    long = length * torch.nn.functional.normalize(torch.ones(1, DIM))

    def total(x, others):
        return matrix(x, torch.cat([x, others]), measure)[:, :8].sum()

    expected = value_and_slope(lambda x: total(x, long[:0].double()), x.double())
    value, slope = value_and_slope(lambda x: total(x, long), x)
    torch.testing.assert_close(value.double(), expected[0], rtol=1e-2, atol=0)
    assert (slope - expected[1]).norm() < 1e-2 * expected[1].norm()


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
