"""Disjoint pairs: roles and their combinations, against loops."""

from functools import partial

import pytest
import torch
from brute_force_losses import (
    DIM,
    MEASURES,
    embeddings,
    entries,
    paired,
    similarity,
    value_and_slope,
)

from rhs.errors import UserError
from rhs.methods.batch import Batch
from rhs.methods.generators.rotation import Rotation
from rhs.methods.generators.symmetric import Symmetric
from rhs.methods.mining.pairs import EVERY, ORIGINAL, ROLES, PairMiner
from rhs.methods.sums import mean

SIX = (
    ("anchor", "positive"),
    ("anchor", "synthetic_positive"),
    ("anchor", "synthetic_anchor"),
    ("positive", "synthetic_positive"),
    ("positive", "synthetic_anchor"),
    ("synthetic_positive", "synthetic_anchor"),
)


def batch_of(x: torch.Tensor) -> Batch:
    labels = embeddings()[1]
    random = torch.Generator().manual_seed(3)
    centers = 0.5 * torch.randn(6, DIM, generator=random, dtype=torch.float64)
    return Batch(x, x, labels, centers[labels], normalized=False)


@pytest.fixture
def x() -> torch.Tensor:
    return embeddings()[0]


def rotated(batch: Batch, i: int, j: int) -> torch.Tensor:
    a, p, c = batch.x_BD[i], batch.x_BD[j], batch.centers_BD[i]
    return c + (p - c).norm() * (c - a) / (c - a).norm()


def mirrored(batch: Batch, i: int, j: int) -> torch.Tensor:
    a, p = batch.x_BD[i], batch.x_BD[j]
    return 1.5 * (1.8 * (p @ a) / (a @ a) * a - p)


GENERATORS = {"rotation": (Rotation(), rotated), "symmetric": (Symmetric(1.8, 1.5), mirrored)}


def points(batch: Batch, by_hand) -> list[dict[str, torch.Tensor]]:
    """Of each pair, in the order of the rows."""
    return [
        {
            "anchor": batch.x_BD[a],
            "positive": batch.x_BD[p],
            "synthetic_positive": by_hand(batch, a, p),
            "synthetic_anchor": by_hand(batch, p, a),
        }
        for a, p in ordered(batch)
    ]


def ordered(batch: Batch) -> list[tuple[int, int]]:
    """The pairs, whole ones first, by class."""
    pairs = paired(batch.labels_B)
    first = [pair for pair in pairs if pair[0] < pair[1]]
    return first + [pair for pair in pairs if pair[0] > pair[1]]


def mine(x, mining: PairMiner, generator=None, measure="dot", **more):
    batch = batch_of(x)
    generate = None
    if generator is not None:
        generate = lambda a, p: partial(generator, batch)(a, p, 1.0)  # noqa: E731
    return mining(batch, generate, measure, **more).rows(slice(None))


def largest(of_pairs, combinations, i: int, j: int, measure: str, both_ends: bool = False):
    values = [similarity(of_pairs[i][u], of_pairs[j][v], measure) for u, v in combinations]
    if both_ends:
        values = [
            value + of_pairs[i][v] @ of_pairs[j][v]
            for value, (_, v) in zip(values, combinations, strict=True)
        ]
    return max(values)


@pytest.mark.parametrize("measure", MEASURES)
def test_rows_of_original_pairs(x, measure):
    batch = batch_of(x)
    rows, plain = mine(x, PairMiner(), measure=measure)
    assert plain is None
    pairs = ordered(batch)
    assert rows.labels_R.tolist() == [batch.labels_B[a] for a, _ in pairs]
    assert rows.partner_RP is None
    for (positives, negatives), (a, p) in zip(entries(rows), pairs, strict=True):
        others = [q for b, q in pairs if batch.labels_B[b] != batch.labels_B[a]]
        expected = [similarity(x[a], x[q], measure) for q in others]
        assert positives == [pytest.approx(similarity(x[a], x[p], measure).item())]
        assert [float(value) for value in negatives] == pytest.approx([float(e) for e in expected])


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("pair", EVERY, ids="-".join)
@pytest.mark.parametrize("generator", GENERATORS)
def test_each_two_roles(x, generator, pair, measure):
    """Row i, column j: the first role's point of pair i and the second's of pair j."""
    made_by, by_hand = GENERATORS[generator]
    rows, _ = mine(x, PairMiner(negatives=[pair]), made_by, measure)
    of_pairs = points(batch_of(x), by_hand)
    expected = [
        [similarity(row[pair[0]], column[pair[1]], measure) for column in of_pairs]
        for row in of_pairs
    ]
    torch.testing.assert_close(rows.negative_RC, torch.tensor(expected).double())


@pytest.mark.parametrize("generator", GENERATORS)
@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("positives", ["original", "hardest", "synthetic", "combined"])
@pytest.mark.parametrize("combinations", [EVERY, SIX, EVERY[3:5]], ids=["all", "six", "two"])
def test_the_hardest_of_all_combinations(x, combinations, positives, measure, generator):
    made_by, by_hand = GENERATORS[generator]
    negatives = "all" if combinations == EVERY else combinations
    rows, _ = mine(x, PairMiner(positives, negatives), made_by, measure)
    of_pairs = points(batch_of(x), by_hand)
    labels = rows.labels_R
    for i, (own, others) in enumerate(entries(rows)):
        original = similarity(of_pairs[i]["anchor"], of_pairs[i]["positive"], measure)
        synthetic = similarity(of_pairs[i]["anchor"], of_pairs[i]["synthetic_positive"], measure)
        expected = {
            "original": original,
            "synthetic": synthetic,
            "hardest": min(original, synthetic),
            "combined": largest(of_pairs, combinations, i, i, measure),
        }[positives]
        torch.testing.assert_close(own, [expected])
        away = [j for j in range(len(labels)) if labels[j] != labels[i]]
        expected = [largest(of_pairs, combinations, i, j, measure) for j in away]
        torch.testing.assert_close(others, expected)


@pytest.mark.parametrize("generator", [None, *GENERATORS])
def test_both_ends_are_compared_with_a_point_of_the_other_pair(x, generator):
    made_by, by_hand = GENERATORS[generator] if generator else (None, rotated)
    combinations = EVERY[:12] if generator else (ORIGINAL,)
    mining = PairMiner(negatives=combinations, both_ends=True)
    rows, _ = mine(x, mining, made_by)
    of_pairs = points(batch_of(x), by_hand)
    for i, (own, others) in enumerate(entries(rows)):
        torch.testing.assert_close(own, [of_pairs[i]["anchor"] @ of_pairs[i]["positive"]])
        away = [j for j in range(8) if rows.labels_R[j] != rows.labels_R[i]]
        expected = [largest(of_pairs, combinations, i, j, "dot", both_ends=True) for j in away]
        torch.testing.assert_close(others, expected)


@pytest.mark.parametrize("measure", MEASURES)
def test_the_rows_of_originals_alone_come_along_if_asked_for(x, measure):
    mining = PairMiner("hardest", "all")
    expected, _ = mine(x, PairMiner(), measure=measure)
    hard, plain = mine(x, mining, Rotation(), measure, with_plain=True)
    for name in ("positive_RP", "has_positive_RP", "negative_RC", "has_negative_RC", "labels_R"):
        assert torch.equal(getattr(plain, name), getattr(expected, name))
    assert (hard.negative_RC >= plain.negative_RC).all()
    assert (hard.positive_RP <= plain.positive_RP).all()
    assert mine(x, mining, Rotation(), measure)[1] is None


def test_gradients_reach_all_points_that_a_positive_is_made_of(x):
    _, slope = value_and_slope(
        lambda x: mine(x, PairMiner("synthetic"), Rotation())[0].positive_RP.sum(), x
    )
    in_pairs = {i for pair in paired(batch_of(x).labels_B) for i in pair}
    assert {i for i in range(16) if slope[i].abs().max() > 0} == in_pairs
    assert len(in_pairs) == 14


@pytest.mark.parametrize("generator", GENERATORS)
def test_what_is_told_about_the_generated_points(x, generator):
    made_by, by_hand = GENERATORS[generator]
    chosen = (*SIX[:2], ("positive", "anchor"))
    rows, _ = mine(x, PairMiner("original", chosen), made_by)
    of_pairs = points(batch_of(x), by_hand)
    gained = [
        (p["anchor"] @ p["positive"] - p["anchor"] @ p["synthetic_positive"]).item()
        for p in of_pairs
    ]
    originals = (SIX[0], ("positive", "anchor"))
    wins = [
        bool(largest(of_pairs, chosen, i, j, "dot") > largest(of_pairs, originals, i, j, "dot"))
        for i, j in rows.has_negative_RC.nonzero().tolist()
    ]
    told = {name: mean(sums) for name, sums in rows.diagnostics.items()}
    assert told["hardness_gained"].item() == pytest.approx(sum(gained) / len(gained))
    assert told["synthetic_harder"].item() == sum(g > 0 for g in gained) / len(gained)
    assert told["synthetic_negatives"].item() == pytest.approx(sum(wins) / len(wins))
    assert 0 < sum(wins) < len(wins)
    assert not any(value.requires_grad for value in told.values())
    assert "synthetic_negatives" not in mine(x, PairMiner("hardest"), made_by)[0].diagnostics


@pytest.mark.parametrize("positives", ["hardest", "synthetic", "original", "combined"])
@pytest.mark.parametrize("pair", EVERY, ids="-".join)
def test_whether_it_compares_with_anything_synthetic(pair, positives):
    expected = positives in ("hardest", "synthetic") or "synthetic" in "-".join(pair)
    assert PairMiner(positives, [ORIGINAL, pair]).uses_generator == expected


def test_all_are_the_sixteen_combinations():
    assert set(PairMiner(negatives="all").combinations) == {(u, v) for u in ROLES for v in ROLES}


def test_settings_that_do_not_exist():
    with pytest.raises(UserError, match=r"'easiest'.*original, hardest, synthetic, combined"):
        PairMiner("easiest")
    with pytest.raises(UserError, match=r"'achor'.*anchor, positive"):
        PairMiner(negatives=(("achor", "positive"),))
    with pytest.raises(UserError, match="no pair"):
        PairMiner(negatives=())
    with pytest.raises(UserError, match=r"'combined'.*both_ends.*original, hardest or synthetic"):
        PairMiner("combined", both_ends=True)


@pytest.mark.parametrize(
    "wrong", ["anchor", ("anchor", "positive"), [["anchor"]], [("anchor",) * 3], 3, None]
)
def test_negatives_that_are_no_pairs_of_roles(wrong):
    with pytest.raises(UserError, match=r"mining\.negatives .* give pairs of anchor.*, or all\."):
        PairMiner(negatives=wrong)
