"""The reflection of Symmetrical Synthesis: what it keeps, golden values, and a zero axis."""

import itertools

import pytest
import torch

from rhs.methods.generators.geometry import reflect


def points(seed: int, n: int = 50, dim: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(n, dim, generator=random, dtype=torch.float64) for _ in range(2))


def test_reflection_keeps_length_dot_product_and_distance():
    x, axis = points(seed=9)
    mirrored = reflect(x, axis)
    torch.testing.assert_close(mirrored.norm(dim=1), x.norm(dim=1))
    torch.testing.assert_close((mirrored * axis).sum(1), (x * axis).sum(1))
    torch.testing.assert_close((mirrored - axis).norm(dim=1), (x - axis).norm(dim=1))
    torch.testing.assert_close(reflect(mirrored, axis), x)


def test_reflection_doubles_the_angle_and_two_of_them_triple_it():
    x, y = (torch.nn.functional.normalize(point) for point in points(seed=10))
    theta = (x * y).sum(1).acos()
    torch.testing.assert_close((x * reflect(x, y)).sum(1), (2 * theta).cos())
    torch.testing.assert_close((reflect(x, y) * reflect(y, x)).sum(1), (3 * theta).cos())


def test_golden_reflections():
    a = torch.tensor([[1, 0], [0, 1], [1, 1]]).double()
    p = torch.tensor([[0.8, 0.2], [0.1, 0.9], [1.2, 0.7]]).double()
    s1 = torch.tensor([[0.8, -0.2], [-0.1, 0.9], [0.7, 1.2]]).double()
    s2 = torch.tensor([[0.88235, 0.47059], [0.21951, 0.97561], [1.36269, 0.37824]]).double()
    torch.testing.assert_close(reflect(p, a), s1)
    torch.testing.assert_close(reflect(a, p), s2, rtol=0, atol=5e-6)


def test_reflection_strength():
    x, axis = points(seed=11)
    projection = (x + reflect(x, axis)) / 2
    torch.testing.assert_close(reflect(x, axis, 1.5, 0.5), 0.5 * (1.5 * projection - x))


def test_reflection_about_nothing():
    x = torch.tensor([[1.0, 2.0]], requires_grad=True)
    zero = torch.zeros(1, 2, requires_grad=True)
    mirrored = reflect(x, zero)
    torch.testing.assert_close(mirrored, -x)
    mirrored.sum().backward()
    assert torch.isfinite(x.grad).all()
    assert torch.isfinite(zero.grad).all()


@pytest.mark.parametrize(
    ("degrees", "most"),
    [(30, 0.8660254), (89, 0.0174524), (100, 0.5), (120, 1.0), (170, 0.9396926)],
)
def test_the_most_similar_combination_is_the_original_up_to_a_right_angle(degrees, most):
    angle = torch.tensor(degrees).double().deg2rad()
    a, p = torch.tensor([[1.0, 0.0]]).double(), torch.stack([angle.cos(), angle.sin()])[None]
    roles = [a, p, reflect(p, a), reflect(a, p)]
    largest = max((x @ y.T).item() for x, y in itertools.combinations(roles, 2))
    assert largest == pytest.approx(most, abs=1e-7)
    assert (largest == pytest.approx(angle.cos().item())) == (degrees <= 90)
