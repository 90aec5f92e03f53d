"""Mirrored points need no products of their own: the shortcut against the products."""

from functools import partial

import pytest
import torch
from brute_force_losses import MEASURES, assert_agree, embeddings, value_and_slope

from rhs.methods.batch import Batch
from rhs.methods.generators.symmetric import Symmetric
from rhs.methods.mining.pairs import EVERY, PairMiner
from rhs.methods.ops import max_similarity

DISTANCES = MEASURES[1:]
X, LABELS = embeddings()
PAIRS = 8


class Direct(Symmetric):
    """Without what the shortcut needs."""

    def __call__(self, *given):
        made = super().__call__(*given)
        assert made.weights_M2 is not None
        made.weights_M2 = None
        return made


def total(x, mining: PairMiner, generator, measure="dot", labels=LABELS) -> torch.Tensor:
    """Of all entries, with random weights."""
    batch = Batch(x, x, labels, normalized=False)
    rows, _ = mining(batch, lambda a, p: generator(batch, a, p, 0.0), measure).rows(slice(None))
    n = len(rows.labels_R)
    weight = torch.randn(n, n, generator=torch.Generator().manual_seed(0)).double()
    return 10 + (weight * rows.negative_RC).sum().square() + rows.positive_RP.square().sum()


def both(**settings):
    """With the shortcut and without."""
    return (partial(total, generator=made(1.8, 1.5), **settings) for made in (Symmetric, Direct))


@pytest.mark.parametrize("both_ends", [False, True])
@pytest.mark.parametrize("pair", EVERY, ids="-".join)
def test_each_combination(pair, both_ends):
    """Named twice, since one alone has no use for the shortcut."""
    positives = "original" if both_ends else "combined"
    assert_agree(*both(mining=PairMiner(positives, [pair, pair], both_ends)), X)


@pytest.mark.parametrize("measure", DISTANCES)
@pytest.mark.parametrize("pair", EVERY, ids="-".join)
def test_each_combination_by_distance(pair, measure):
    assert_agree(*both(mining=PairMiner("original", [pair, pair]), measure=measure), X)


@pytest.mark.parametrize("tile", [1, 3 * PAIRS, 2**17])
@pytest.mark.parametrize(
    ("measure", "both_ends"), [(measure, False) for measure in MEASURES] + [("dot", True)]
)
def test_the_largest_of_all_combinations(monkeypatch, measure, both_ends, tile):
    """However many entries are worked on at a time."""
    monkeypatch.setattr(max_similarity, "TILE", tile)
    for count in (3, 7, 16):
        mining = PairMiner("original", EVERY[:count], both_ends)
        assert_agree(*both(mining=mining, measure=measure), X)


@pytest.mark.parametrize("pair", EVERY, ids="-".join)
def test_pairs_at_right_angles(pair):
    """Mirrored points then have no share of their axis, but the slope of that share stays."""
    a, p = [[1, 0, 0.5], [1, 1, 0], [2, 0, 1]], [[0, 2, 0], [1, -1, 3], [1, 5, -2]]
    x = torch.stack([torch.tensor(a), torch.tensor(p)], dim=1).reshape(6, 3).double()
    assert ((x[::2] * x[1::2]).sum(1) == 0).all()
    mining = PairMiner("original", [pair, pair])
    assert_agree(*both(mining=mining, labels=torch.arange(3).repeat_interleave(2)), x)


@pytest.mark.parametrize("measure", MEASURES)
def test_a_batch_without_pairs(measure):
    for function in both(
        mining=PairMiner("original", "all"), measure=measure, labels=torch.arange(3)
    ):
        value, slope = value_and_slope(function, X[:3])
        assert value == 10
        assert (slope == 0).all()


@pytest.mark.parametrize("measure", MEASURES)
def test_of_equal_points_the_original_wins(measure):
    """On a line through the origin a mirrored point is the point itself."""
    x = torch.tensor([[1], [2], [8], [16], [0.25], [0.5]]).double()
    labels = torch.arange(3).repeat_interleave(2)

    def rows(x, negatives):
        batch = Batch(x, x, labels, normalized=False)
        generate = partial(_points, Symmetric(), batch)
        return PairMiner("original", negatives)(batch, generate, measure).rows(slice(None))[0]

    originals = [pair for pair in EVERY if not any("synthetic" in role for role in pair)]
    every, few = (
        lambda x, chosen=chosen: rows(x, chosen).negative_RC.square().sum()
        for chosen in (EVERY, originals)
    )
    assert_agree(every, few, x)
    assert rows(x, EVERY).diagnostics["synthetic_negatives"][0] == 0


@pytest.mark.parametrize("measure", MEASURES)
def test_in_single_precision(measure):
    """Of unit vectors: as close as rounding allows."""
    x = torch.nn.functional.normalize(X)
    batch = [Batch(x.to(dtype), x.to(dtype), LABELS) for dtype in (torch.float32, torch.float64)]
    single, exact = (
        PairMiner("original", "all")(b, partial(_points, Symmetric(), b), measure)
        .rows(slice(None))[0]
        .negative_RC
        for b in batch
    )
    apart = exact < -0.05 if measure != "dot" else exact > -2
    torch.testing.assert_close(single[apart].double(), exact[apart], rtol=1e-5, atol=1e-5)
    assert apart.sum() > PAIRS * (PAIRS - 1) / 2


def _points(generator, batch, anchor_N, positive_N):
    return generator(batch, anchor_N, positive_N, 0.0)
