"""Intra-class augmentation: the draws, and the correction of variances against a plain loop."""

import math

import pytest
import torch
import torch.nn.functional as F

from rhs.errors import UserError
from rhs.methods.batch import Batch
from rhs.methods.generators.intra_class import IntraClass

NOBODY = torch.empty(0, dtype=torch.long)  # it takes no pairs


def corrected(k: int, n: list, mean: list, variance: list, made: IntraClass) -> list:
    """Equations 11 to 16 for class k, in plain numbers."""
    dims = range(len(mean[k]))
    if n[k] > made.few or n[k] == 0:
        return variance[k]

    def apart(x, y):
        return math.sqrt(sum((x[d] - y[d]) ** 2 for d in dims))

    squared = [[m * m for m in row] for row in mean]
    several = [i for i in range(len(n)) if n[i] > 1]
    others = [i for i in several if i != k]
    if not others:
        return variance[k]
    near = sorted(others, key=lambda i: apart(squared[i], squared[k]))[: made.neighbors]  # 11
    log_w = {
        i: math.log(n[i])
        - apart(squared[i], squared[k]) ** 2 / (2 * made.sigma_mean**2)
        - apart(variance[i], variance[k]) ** 2 / (2 * made.sigma_variance**2)
        for i in near
    }  # 13; their common factor cancels in 12
    w = {i: math.exp(value - max(log_w.values())) for i, value in log_w.items()}
    of_near = [sum(w[i] * variance[i][d] for i in near) / sum(w.values()) for d in dims]  # 12
    of_all = [
        sum(n[i] * variance[i][d] for i in several) / sum(n[i] for i in several) for d in dims
    ]  # 14
    a = 1 / (1 + math.log(1 + made.beta * (n[k] - 1)))  # 16
    other = [(1 - made.gamma) * of_near[d] + made.gamma * of_all[d] for d in dims]
    return [(1 - a) * variance[k][d] + a * other[d] for d in dims]  # 15


def moments(sizes: list[int], dim: int = 3, scale: float = 1.0, seed: int = 0):
    random = torch.Generator().manual_seed(seed)
    n = torch.tensor(sizes, dtype=torch.float64)
    mean = scale * torch.randn(len(sizes), dim, generator=random, dtype=torch.float64)
    variance = torch.rand(len(sizes), dim, generator=random, dtype=torch.float64)
    there = n[:, None] > 0
    return n, mean * there, variance * there * (n[:, None] > 1)


UNEVEN = [1, 5, 40, 41, 0, 2, 1, 17, 100, 3]


@pytest.mark.parametrize(
    ("sizes", "settings"),
    [
        (UNEVEN, {}),  # more neighbors wanted than there are classes
        (UNEVEN, {"neighbors": 2}),
        (UNEVEN, {"neighbors": 1, "few": 5, "beta": 0.0, "gamma": 1.0}),
        (UNEVEN, {"neighbors": 3, "few": 1000, "beta": 2.0, "gamma": 0.0}),
        (UNEVEN, {"neighbors": 4, "sigma_mean": 0.5, "sigma_variance": 0.2, "gamma": 0.4}),
        (UNEVEN * 5, {"neighbors": 7}),
        ([3, 0, 8], {}),
        ([1, 3, 1, 8], {}),
    ],
)
def test_variances_of_small_classes_are_corrected_as_published(sizes, settings):
    made = IntraClass(**settings)
    given = moments(sizes)
    result = made.corrected(*given)
    n, mean, variance = (value.tolist() for value in given)
    changed = 0
    for k in range(len(sizes)):
        expected = torch.tensor(corrected(k, n, mean, variance, made)).double()
        torch.testing.assert_close(result[k], expected, rtol=1e-6, atol=1e-9)
        changed += not torch.equal(result[k], given[2][k])
    assert changed == sum(0 < size <= made.few for size in sizes)


def test_more_classes_than_are_corrected_at_a_time():
    made, given = IntraClass(neighbors=3), moments([2, 3] * 520)
    result = made.corrected(*given)
    n, mean, variance = (value.tolist() for value in given)
    for k in (0, 1023, 1024, 1039):
        expected = torch.tensor(corrected(k, n, mean, variance, made)).double()
        torch.testing.assert_close(result[k], expected, rtol=1e-6, atol=1e-9)


def test_neighbors_count_in_proportion_however_far_all_of_them_are():
    """Weights as small as exp(-2000) still have ratios."""
    made, given = IntraClass(), moments([3] * 6, scale=30.0)
    result = made.corrected(*given)
    n, mean, variance = (value.tolist() for value in given)
    for k in range(6):
        expected = torch.tensor(corrected(k, n, mean, variance, made)).double()
        torch.testing.assert_close(result[k], expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("sizes", "few"),
    [([41, 50, 100], 40), ([3, 2, 5], 0), ([0, 7, 0], 40), ([0, 0], 40), ([1, 1, 0], 40)],
)
def test_large_classes_and_those_without_others_keep_their_own_variance(sizes, few):
    given = moments(sizes)
    assert torch.equal(IntraClass(few=few).corrected(*given), given[2])


def test_a_class_of_one_image_tells_others_nothing_and_takes_what_they_have():
    """Classes {-1, 1}, {4, 6} and {0.5}: the third is nearest to the first."""
    n = torch.tensor([2.0, 2.0, 1.0]).double()
    mean, variance = torch.tensor([[0.0], [5.0], [0.5]]).double(), torch.ones(3, 1).double()
    variance[2] = 0.0
    assert torch.equal(IntraClass().corrected(n, mean, variance), torch.ones_like(variance))


def test_one_class_of_several_images_has_no_neighbor_and_is_all_that_the_others_have():
    n, mean, variance = moments([1, 7, 1])
    result = IntraClass().corrected(n, mean, variance)
    torch.testing.assert_close(result, variance[1].expand(3, -1), rtol=1e-12, atol=0)
    assert torch.equal(result[1], variance[1])


def batch(x: torch.Tensor, labels: torch.Tensor, normalized: bool = False) -> Batch:
    return Batch(F.normalize(x) if normalized else x, x, labels, None, normalized)


def with_variances(*rows: tuple[float, ...], dtype=torch.float64, **settings) -> IntraClass:
    made = IntraClass(**settings)
    made.prepare(len(rows), len(rows[0]))
    made.variance_CD.copy_(torch.tensor(rows))
    return made.to(dtype)


def drawn(made: IntraClass, given: Batch, seed: int = 0):
    torch.manual_seed(seed)
    return made(given, NOBODY, NOBODY, 0.5)


def test_every_draw_has_the_class_s_variance_around_its_sample():
    """Not a smaller power of it from draw to draw."""
    variances, strength = ((0.04, 1.0), (4.0, 0.25)), 0.7
    made = with_variances(*variances, draws=3, strength=strength)
    labels = torch.arange(2).repeat(20_000)
    z = torch.tensor([[5.0, -3.0], [1.0, 2.0]]).double()[labels]
    points = drawn(made, batch(z, labels))
    assert points.anchor_M is None
    assert torch.equal(points.labels_M, labels.repeat(3))
    assert torch.equal(points.labels_M, labels[points.parent_M])
    noise = points.x_MD - z[points.parent_M]
    for draw in noise.chunk(3):
        for label in range(2):
            expected = strength * torch.tensor(variances[label]).double()
            own = draw[labels == label]
            assert (own.mean(0).abs() < 4 * (expected / 20_000).sqrt()).all()
            torch.testing.assert_close(own.var(0), expected, rtol=0.05, atol=0)
    assert torch.corrcoef(torch.stack([d[:, 0] for d in noise.chunk(3)])).triu(1).abs().max() < 0.03


def test_the_draws_depend_on_the_seed_alone_and_not_on_precision():
    labels = torch.tensor([0, 1, 1])
    z = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    spread = (0.5, 2.0), (1.0, 3.0)
    one = drawn(with_variances(*spread), batch(z.double(), labels)).x_MD
    torch.testing.assert_close(
        drawn(with_variances(*spread), batch(z.double(), labels)).x_MD, one, rtol=0, atol=0
    )
    single = drawn(with_variances(*spread, dtype=torch.float32), batch(z, labels)).x_MD
    assert single.dtype == torch.float32
    torch.testing.assert_close(single, one.float(), rtol=1e-6, atol=1e-6)
    other = drawn(with_variances(*spread), batch(z.double(), labels), seed=1).x_MD
    assert ((one - other).abs() > 1e-3).all()


@pytest.mark.parametrize("normalized", [False, True])
def test_gradients_reach_the_sample_and_not_the_statistics(normalized):
    random = torch.Generator().manual_seed(0)
    labels = torch.tensor([0, 1, 1])
    z, g = (torch.randn(n, 4, generator=random, dtype=torch.float64) for n in (3, 6))
    z.requires_grad_()
    made = with_variances((0.5,) * 4, (1.0,) * 4, draws=2)
    points = drawn(made, batch(z, labels, normalized))
    (points.x_MD * g).sum().backward()
    noise = drawn(made, batch(z.detach(), labels)).x_MD - z.detach().repeat(2, 1)
    for i in range(3):
        own = z[i].detach().clone().requires_grad_()
        around = [own + noise[i], own + noise[3 + i]]
        if normalized:
            around = [x / x.norm() for x in around]
        torch.testing.assert_close(points.x_MD[3 + i], around[1])
        (around[0] @ g[i] + around[1] @ g[3 + i]).backward()
        torch.testing.assert_close(z.grad[i], own.grad)
    assert not made.variance_CD.requires_grad


def test_without_a_pass_over_the_training_set_nothing_is_augmented():
    made = IntraClass()
    made.prepare(5, 3)
    z, labels = torch.randn(4, 3), torch.tensor([0, 4, 4, 1])
    assert torch.equal(drawn(made, batch(z, labels)).x_MD, z.repeat(3, 1))


def test_a_pass_over_the_training_set_leaves_the_corrected_variances():
    made = IntraClass(few=4, neighbors=2)
    made.prepare(4, 3)
    random = torch.Generator().manual_seed(0)
    labels = torch.tensor([0] * 3 + [1] * 9 + [3] * 4)[torch.randperm(16, generator=random)]
    z = torch.randn(16, 3, generator=random, dtype=torch.float64)
    sums = made.start_refresh()
    for part, own in zip(z.split(5), labels.split(5), strict=True):
        sums.add(part, own)
    made.finish_refresh(sums)
    assert made.state_dict().keys() == {"variance_CD"}
    own = [z[labels == k] for k in range(4)]
    n = [len(x) for x in own]
    mean = [x.mean(0).tolist() if len(x) else [0.0] * 3 for x in own]
    variance = [x.var(0, correction=0).tolist() if len(x) else [0.0] * 3 for x in own]
    expected = [corrected(k, n, mean, variance, made) for k in range(4)]
    torch.testing.assert_close(made.variance_CD, torch.tensor(expected), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"draws": 0}, r"generator\.draws is 0; .* at least 1 and at most 10,000\."),
        ({"every": 0}, r"generator\.every is 0; it must be a whole number"),
        ({"neighbors": 0}, r"generator\.neighbors is 0; .* at least 1 and at most 10,000\."),
        ({"strength": -1.0}, r"generator\.strength is -1\.0; it must be a number at least 0\."),
        ({"gamma": 1.5}, r"generator\.gamma is 1\.5; .*at least 0 and at most 1\."),
        ({"beta": -0.1}, r"generator\.beta is -0\.1; it must be a number at least 0\."),
        ({"draws": 1.5}, r"generator\.draws is 1\.5; .* at least 1 and at most 10,000\."),
        ({"few": -1}, r"generator\.few is -1; it must be a number at least 0\."),
        ({"sigma_mean": 0}, r"generator\.sigma_mean is 0; it must be a number above 0\."),
        ({"sigma_variance": "x"}, r"generator\.sigma_variance is 'x'; .* above 0\."),
    ],
)
def test_settings_out_of_range(wrong, message):
    with pytest.raises(UserError, match=message):
        IntraClass(**wrong)
