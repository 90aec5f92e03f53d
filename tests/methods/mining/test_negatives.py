"""Which negatives are taken: against loops, and by how often they are drawn."""

import math

import pytest
import torch
from brute_force_losses import MEASURES, some_rows

from rhs.errors import UserError
from rhs.methods.batch import AnchorSimilarities
from rhs.methods.losses.npair import NPair
from rhs.methods.mining import negatives as negatives_module
from rhs.methods.mining.batch import BatchMiner
from rhs.methods.objective import Objective


def noise(rows: AnchorSimilarities) -> torch.Tensor:
    return negatives_module.uniform(rows.positive_RP.shape, rows.positive_RP)


def one_anchor(positives, negatives, mask=None) -> AnchorSimilarities:
    positive, negative = (torch.tensor([values]).double() for values in (positives, negatives))
    mask = torch.ones_like(negative, dtype=torch.bool) if mask is None else torch.tensor([mask])
    return AnchorSimilarities(
        positive,
        torch.ones_like(positive, dtype=torch.bool),
        negative,
        mask,
        torch.zeros(1, dtype=torch.long),
    )


def test_semi_hard_is_the_nearest_negative_that_is_farther_than_the_positive():
    rows = one_anchor([-1.0, -0.5, -2.0], [-0.7, -1.5, -0.2, -1.2, -3.0])
    assert negatives_module.semi_hard(rows).tolist() == [[3, 0, 4]]


def test_semi_hard_where_none_is_farther_is_the_farthest():
    rows = one_anchor([-5.0], [-0.7, -1.5, -0.2])
    assert negatives_module.semi_hard(rows).tolist() == [[1]]


def test_semi_hard_negatives_are_strictly_farther():
    rows = one_anchor([-1.0], [-0.5, -1.0, -1.25, -1.0])
    assert negatives_module.semi_hard(rows).tolist() == [[2]]


def test_semi_hard_takes_no_one_of_the_own_class():
    rows = one_anchor([-1.0, -9.0], [-1.1, -1.2, -10.0], [False, True, False])
    assert negatives_module.semi_hard(rows).tolist() == [[1, 1]]


@pytest.mark.parametrize("seed", range(10))
def test_against_loops(seed):
    rows = some_rows(9, 4, 6, seed)
    semi_hard = negatives_module.semi_hard(rows)
    hardest, easy = (negatives_module.extreme(rows, which) for which in ("hardest", "easy"))
    assert hardest.shape == easy.shape == (9, 1)
    for r in range(9):
        there = rows.has_negative_RC[r].nonzero()[:, 0].tolist()
        if not there:
            continue
        closeness = {c: rows.negative_RC[r, c].item() for c in there}
        assert hardest[r, 0] == max(there, key=closeness.get)
        assert easy[r, 0] == min(there, key=closeness.get)
        for p in rows.has_positive_RP[r].nonzero()[:, 0].tolist():
            farther = [c for c in there if closeness[c] < rows.positive_RP[r, p]]
            expected = max(farther, key=closeness.get) if farther else easy[r, 0]
            assert semi_hard[r, p] == expected


@pytest.mark.parametrize("dim", [None, 16])
@pytest.mark.parametrize("measure", MEASURES)
def test_a_row_without_negatives_gets_some_index_that_does_not_count(measure, dim):
    rows = some_rows()
    rows.has_negative_RC[:] = False
    for index in (
        negatives_module.drawn(rows, noise(rows), measure, dim),
        negatives_module.semi_hard(rows),
        negatives_module.extreme(rows, "hardest"),
        negatives_module.extreme(rows, "easy"),
    ):
        assert ((index >= 0) & (index < rows.negative_RC.shape[1])).all()
        assert not rows.has_negative_RC.gather(1, index).any()


@pytest.mark.parametrize(
    ("distance", "log_density"),
    [(0.5, -369.930), (1.0, -73.215), (1.2, -20.596), (1.3, -5.9266), (1.41, 0.3346)],
)
def test_golden_densities_of_distances_on_the_sphere(distance, log_density):
    made = negatives_module.inverse_density(torch.tensor(distance).double(), 512)
    torch.testing.assert_close(
        made.item(), -log_density, rtol=0, atol=5e-4 * max(1, -log_density / 100)
    )


def test_the_density_is_that_of_random_unit_vectors():
    """Of 40000 pairs in 5 dimensions: how many are at each distance."""
    random = torch.Generator().manual_seed(0)
    x, y = torch.nn.functional.normalize(torch.randn(2, 40000, 5, generator=random), dim=2)
    counts = torch.histc((x - y).norm(dim=1), 5, 0.6, 1.6)
    grid = (torch.arange(5000) + 0.5) / 5000 + 0.6
    density = (-negatives_module.inverse_density(grid, 5)).exp().view(5, 1000).sum(1)
    torch.testing.assert_close(counts / counts.sum(), density / density.sum(), rtol=0.05, atol=0)


def test_nearer_than_one_half_a_negative_is_no_more_likely():
    near = negatives_module.inverse_density(torch.tensor([0.0, 0.2, 0.5, 0.51]), 128)
    assert near[0] == near[1] == near[2] > near[3]


@pytest.mark.parametrize("dim", [2, 3, 128, 2048])
def test_densities_are_finite_up_to_opposite_points(dim):
    made = negatives_module.inverse_density(torch.tensor([0.0, 1.0, 1.9999, 2.0, 2.0001]), dim)
    assert made.isfinite().all()


DISTANCES = (0.3, 0.7, 0.9, 1.0, 1.1, 1.3, 1.5)
SIMILARITY = {
    "dot": lambda d: 1 - d * d / 2,
    "euclidean": lambda d: -d,
    "squared_euclidean": lambda d: -d * d,
}
DRAWS = 20_000


def frequencies(measure: str, dim: int | None, mask: list[bool]) -> torch.Tensor:
    torch.manual_seed(0)
    similar = [SIMILARITY[measure](d) for d in DISTANCES]
    rows = one_anchor([0.0] * DRAWS, similar, mask)
    drawn = negatives_module.drawn(rows, noise(rows), measure, dim)
    assert drawn.shape == (1, DRAWS)
    return torch.bincount(drawn[0], minlength=len(DISTANCES)) / DRAWS


MASKS = [
    [True] * 7,
    [False, True, True, False, True, True, False],
    [True, False, False, False, False, False, True],
]


@pytest.mark.parametrize("mask", MASKS)
def test_random_negatives_are_drawn_equally_often(mask):
    expected = torch.tensor([value / sum(mask) for value in mask])
    made = frequencies("dot", None, mask)
    assert (made[expected == 0] == 0).all()
    torch.testing.assert_close(made, expected, rtol=0, atol=0.015)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("measure", MEASURES)
def test_weighted_negatives_are_drawn_in_proportion_to_one_over_the_density(measure, mask):
    dim = 6
    weights = []
    for d, there in zip(DISTANCES, mask, strict=True):
        d = max(d, 0.5)
        density = d ** (dim - 2) * (1 - d * d / 4) ** ((dim - 3) / 2)
        weights.append(there / density)
    expected = torch.tensor([weight / sum(weights) for weight in weights])
    made = frequencies(measure, dim, mask)
    assert (made[expected == 0] == 0).all()
    torch.testing.assert_close(made, expected, rtol=0, atol=0.015)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("count", range(1, 10))
def test_the_least_and_the_greatest_random_number_draw_real_negatives_too(count, dtype):
    mask = [False, *[True] * count, False, False]
    rows = one_anchor([0.0], [0.0] * len(mask), mask)
    rows.positive_RP, rows.negative_RC = rows.positive_RP.to(dtype), rows.negative_RC.to(dtype)
    for number, expected in ((0.0, 1), (1 - 2**-24, count)):
        given = torch.full_like(rows.positive_RP, number)
        for dim in (None, 6):
            assert negatives_module.drawn(rows, given, "euclidean", dim) == expected


def test_in_many_dimensions_the_weights_do_not_overflow():
    torch.manual_seed(0)
    rows = one_anchor([0.0] * 50, [-1.4, -0.6, -1.2], [True, True, False])
    rows.positive_RP, rows.negative_RC = rows.positive_RP.float(), rows.negative_RC.float()
    assert (negatives_module.drawn(rows, noise(rows), "euclidean", 2048) == 1).all()


@pytest.mark.parametrize("dim", [None, 6])
def test_the_same_seed_draws_the_same(dim):
    rows = some_rows(20, 4, 9)
    made = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        made.append(negatives_module.drawn(rows, noise(rows), "euclidean", dim))
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


def test_draws_of_a_row_are_independent_of_each_other():
    torch.manual_seed(0)
    rows = one_anchor([0.0] * 64, [0.0] * 4)
    drawn = negatives_module.drawn(rows, noise(rows), "dot")[0]
    pairs = set(zip(drawn[::2].tolist(), drawn[1::2].tolist(), strict=True))
    assert len(pairs) > 8


def test_distances_on_the_sphere_are_for_unit_vectors():
    with pytest.raises(
        UserError, match=r"mining\.negatives is 'distance_weighted'.*normalize=true"
    ):
        Objective(NPair(), BatchMiner(negatives="distance_weighted"), normalize=False)
    for negatives in ("random", "semi_hard", "all"):
        Objective(NPair(), BatchMiner(negatives=negatives), normalize=False)


def test_uniform_numbers_have_the_shape_and_the_precision_of_what_they_are_for():
    torch.manual_seed(0)
    made = negatives_module.uniform((1000, 2), torch.zeros(1, dtype=torch.float64))
    assert made.shape == (1000, 2)
    assert made.dtype == torch.float64
    assert ((made >= 0) & (made < 1)).all()
    assert math.isclose(made.mean().item(), 0.5, abs_tol=0.03)
