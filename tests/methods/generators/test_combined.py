"""Rotated positives beside mirrored negatives: each as its own generator makes them."""

from functools import partial

import pytest
import torch
from brute_force_losses import DIM, MEASURES, assert_agree, embeddings

from rhs.errors import UserError
from rhs.methods.batch import Batch
from rhs.methods.centers import EMACenters
from rhs.methods.generators.combined import CombinedGenerators
from rhs.methods.generators.intra_class import IntraClass
from rhs.methods.generators.rotation import Rotation
from rhs.methods.generators.symmetric import Symmetric
from rhs.methods.losses.npair import NPair
from rhs.methods.mining.batch import BatchMiner
from rhs.methods.mining.pairs import PairMiner
from rhs.methods.objective import Objective
from rhs.methods.sums import mean

X, LABELS = embeddings()
SIX = (
    ("anchor", "positive"),
    ("anchor", "synthetic_positive"),
    ("anchor", "synthetic_anchor"),
    ("positive", "synthetic_positive"),
    ("positive", "synthetic_anchor"),
    ("synthetic_positive", "synthetic_anchor"),
)
ROTATION, MIRROR = Rotation(0.2, 1.0), Symmetric()
BOTH = CombinedGenerators(ROTATION, MIRROR)
MININGS = {
    "pairs": (PairMiner("hardest", SIX), PairMiner("hardest")),
    "synthetic pairs": (PairMiner("synthetic", "all"), PairMiner("synthetic")),
    "the batch": (BatchMiner("easy"), BatchMiner("easy", synthetic_negatives=False)),
    "rows of the batch": (
        BatchMiner("all", "hardest", "synthetic"),
        BatchMiner("all", "hardest", "synthetic", synthetic_negatives=False),
    ),
}


def rows(x, mining, generator, measure):
    random = torch.Generator().manual_seed(3)
    centers = 0.5 * torch.randn(6, DIM, generator=random, dtype=torch.float64)
    batch = Batch(x, x, LABELS, centers[LABELS], normalized=False)
    return mining(batch, lambda a, p: generator(batch, a, p, 0.7), measure).rows(slice(None))[0]


def weighted(positive, negative, *has) -> torch.Tensor:
    """Some function of all that counts."""
    random = torch.Generator().manual_seed(0)
    total = 10.0
    for value, mask in zip((positive, negative), has, strict=True):
        weight = torch.randn(value.shape, generator=random).double()
        total = total + torch.where(mask, weight * value, 0.0).sum().square()
    return total


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("mining", MININGS)
def test_positives_are_those_of_the_one_and_negatives_those_of_the_other(mining, measure):
    whole, positives_alone = MININGS[mining]

    def together(x):
        it = rows(x, whole, BOTH, measure)
        return weighted(it.positive_RP, it.negative_RC, it.has_positive_RP, it.has_negative_RC)

    def apart(x):
        hard = rows(x, positives_alone, ROTATION, measure)
        it = rows(x, whole, MIRROR, measure)
        return weighted(hard.positive_RP, it.negative_RC, it.has_positive_RP, it.has_negative_RC)

    assert_agree(together, apart, X)


def test_what_was_made_is_told_of_both():
    def of_rows(*mining):
        return {name: mean(sums) for name, sums in rows(X, *mining, "dot").diagnostics.items()}

    told = of_rows(PairMiner("hardest", SIX), BOTH)
    rotated = of_rows(PairMiner("hardest"), ROTATION)
    mirrored = of_rows(PairMiner("original", SIX), MIRROR)
    assert set(told) == {
        "rotations_unmoved",
        "hardness_gained",
        "synthetic_harder",
        "synthetic_negatives",
    }
    assert told["hardness_gained"] == rotated["hardness_gained"] > 0
    assert told["synthetic_harder"] == rotated["synthetic_harder"] > 0
    assert told["synthetic_negatives"] == mirrored["synthetic_negatives"] > 0


def test_the_mirrored_positive_is_no_harder_than_the_original():
    """So the hardest of the original, the mirrored and the rotated one is here too."""
    for measure in MEASURES:
        plain, hard = (
            rows(X, PairMiner(kind), MIRROR, measure).positive_RP
            for kind in ("original", "hardest")
        )
        torch.testing.assert_close(plain, hard)


def test_centers_are_needed_if_either_rotates():
    assert BOTH.needs_centers
    assert CombinedGenerators(MIRROR, ROTATION).needs_centers
    assert not CombinedGenerators(Symmetric(), Symmetric()).needs_centers


@pytest.mark.parametrize("other", [IntraClass(), None, BOTH, "Rotation"])
def test_other_parts_are_refused(other):
    name = type(other).__name__
    with pytest.raises(UserError, match=rf"generator\.positives is {name}; it must be .*Rotation"):
        CombinedGenerators(other, MIRROR)
    with pytest.raises(UserError, match=rf"generator\.negatives is {name}; it must be .*Symmetric"):
        CombinedGenerators(ROTATION, other)


made = partial(Objective, NPair(), measure="dot", generator=BOTH)
ONE_KIND = (
    r"CombinedGenerators makes points for positives and others for negatives, .*: set mining\."
)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"mining": PairMiner("hardest")}, ONE_KIND + r"positives=hardest, and name synthetic"),
        ({"mining": PairMiner("original", SIX)}, ONE_KIND + r"positives=hardest, and"),
        ({"mining": PairMiner("combined", SIX)}, ONE_KIND + r"positives=hardest, and"),
        (
            {"mining": BatchMiner(synthetic_negatives=False)},
            ONE_KIND + r"synthetic_negatives=true",
        ),
        (
            {"centers": None},
            r"method\.centers is null, but CombinedGenerators rotates about class centers",
        ),
        (
            {
                "normalize": False,
                "generator": CombinedGenerators(Rotation(surface="renormalized"), MIRROR),
            },
            r"surface is 'renormalized'.*method\.normalize is false: choose euclidean\.",
        ),
    ],
)
def test_what_would_leave_one_part_unused_is_refused(wrong, message):
    good = {"mining": PairMiner("hardest", SIX), "centers": EMACenters(0.5)}
    made(**good)
    with pytest.raises(UserError, match=message):
        made(**(good | wrong))
