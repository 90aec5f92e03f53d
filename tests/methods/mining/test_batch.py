"""Every sample an anchor: rows against loops over the batch, with and without generated points."""

import itertools

import pytest
import torch
from brute_force_losses import (
    MEASURES,
    embeddings,
    entries,
    relatives,
    similarity,
    strangers,
    value_and_slope,
)

from rhs.errors import UserError
from rhs.methods.batch import Batch
from rhs.methods.mining.batch import BatchMiner

CHOSEN = ("all", "easy", "hardest")  # of positives: without chance
NEGATIVES = (*CHOSEN, "semi_hard")


@pytest.fixture
def batch() -> Batch:
    x, labels = embeddings()
    random = torch.Generator().manual_seed(3)
    centers = 0.5 * torch.randn(6, x.shape[1], generator=random, dtype=torch.float64)
    return Batch(x, x, labels, centers[labels], normalized=False)


def choose(how: str, values: list[float], positive: float | None = None) -> list[float]:
    if how == "all" or not values:
        return sorted(values)
    if how == "semi_hard":
        farther = [value for value in values if value < positive]
        return [max(farther) if farther else min(values)]
    return [max(values) if how == "hardest" else min(values)]


def loop(candidates, positives: str, negatives: str) -> list[list[tuple[list, list]]]:
    """The rows of each sample, from what it may choose from; where each positive has a negative of
    its own, a row each."""
    nearest = {"easy": "hardest", "hardest": "easy", "all": "all"}[positives]
    rows = []
    for of_class, of_others in candidates:
        chosen = choose(nearest, of_class)
        if negatives == "semi_hard":
            rows.append([([one], choose(negatives, of_others, one)) for one in chosen])
        else:
            rows.append([(chosen, choose(negatives, of_others))])
    return rows


def originals(batch: Batch, measure: str) -> list[tuple[list, list]]:
    def closeness(i, others):
        return [similarity(batch.x_BD[i], batch.x_BD[j], measure).item() for j in others]

    labels = batch.labels_B
    return [
        (closeness(i, relatives(labels, i)), closeness(i, strangers(labels, i)))
        for i in range(len(labels))
    ]


def assert_rows(rows, expected: list[list[tuple[list, list]]], negatives: str) -> None:
    made = [(sorted(p), sorted(n)) for p, n in entries(rows)]
    if negatives == "semi_hard":  # which is about a positive
        made = [row for row in made if row[0]]
    assert len(made) == sum(len(expected_rows) for expected_rows in expected)
    made = iter(made)
    for expected_rows in expected:
        own = list(itertools.islice(made, len(expected_rows)))
        if negatives == "semi_hard":
            own = sorted(own)
        for row, expected_row in zip(own, expected_rows, strict=True):
            for values, expected_values in zip(row, expected_row, strict=True):
                assert [float(value) for value in values] == pytest.approx(expected_values)


@pytest.mark.parametrize("negatives", NEGATIVES)
@pytest.mark.parametrize("positives", CHOSEN)
@pytest.mark.parametrize("measure", MEASURES)
def test_rows_of_a_batch(batch, measure, positives, negatives):
    mining = BatchMiner(positives, negatives)
    rows, plain = mining(batch, None, measure).rows(slice(None))
    assert plain is None
    per_positive = positives == "all" and negatives == "semi_hard"
    assert mining.per_positive == per_positive
    expected = loop(originals(batch, measure), positives, negatives)
    assert_rows(rows, expected, negatives)
    if not per_positive:
        assert torch.equal(rows.labels_R, batch.labels_B)


@pytest.mark.parametrize("negatives", ["semi_hard", "random", "distance_weighted"])
def test_where_each_positive_has_its_own_negative_it_has_its_own_row(batch, negatives):
    rows, _ = BatchMiner("all", negatives)(batch, None, "euclidean").rows(slice(None))
    assert rows.positive_RP.shape == rows.negative_RC.shape == rows.has_positive_RP.shape
    assert rows.positive_RP.shape == (5 * 4 + 4 * 3 + 3 * 2 + 2, 1)
    assert rows.partner_RP is None
    assert rows.has_positive_RP.all()
    assert rows.has_negative_RC.all()  # all have a stranger
    first = 0
    for i, (of_class, _) in enumerate(originals(batch, "euclidean")):
        own = slice(first, first + len(of_class))
        assert sorted(rows.positive_RP[own, 0].tolist()) == pytest.approx(sorted(of_class))
        assert (rows.labels_R[own] == batch.labels_B[i]).all()
        first += len(of_class)


@pytest.mark.parametrize("positives", ["all", "random", "easy"])
@pytest.mark.parametrize("negatives", ["random", "distance_weighted"])
def test_negatives_of_chance_are_the_anchors_own(batch, positives, negatives):
    """And all of them come in turn."""
    mining = BatchMiner(positives, negatives)
    seen = [set() for _ in batch.labels_B]
    expected = originals(batch, "euclidean")
    anchors = range(16)
    if positives == "all":  # a row for each positive
        anchors = [i for i in range(16) for _ in relatives(batch.labels_B, i)]
    for seed in range(60):
        torch.manual_seed(seed)
        rows, _ = mining(batch, None, "euclidean").rows(slice(None))
        for anchor, (_, others) in zip(anchors, entries(rows), strict=True):
            seen[anchor] |= {round(float(value), 9) for value in others}
    for i in range(16):
        of_others = {round(value, 9) for value in expected[i][1]}
        assert seen[i] <= of_others
        if negatives == "random" and relatives(batch.labels_B, i):
            assert len(seen[i]) > 0.6 * len(of_others)


def test_random_positives_are_the_anchors_own_and_all_come_in_turn(batch):
    seen = [set() for _ in batch.labels_B]
    for seed in range(60):
        torch.manual_seed(seed)
        rows, _ = BatchMiner("random")(batch, None, "dot").rows(slice(None))
        assert rows.positive_RP.shape == (16, 1)
        for i in range(16):
            seen[i] |= set(rows.partner_RP[i][rows.has_positive_RP[i]].tolist())
    assert [sorted(some) for some in seen] == [relatives(batch.labels_B, i) for i in range(16)]


@pytest.mark.parametrize(
    ("positives", "negatives"),
    [("random", "all"), ("all", "random"), ("easy", "distance_weighted")],
)
def test_the_same_seed_chooses_the_same(batch, positives, negatives):
    made = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        rows, _ = BatchMiner(positives, negatives)(batch, None, "euclidean").rows(slice(None))
        made.append(torch.cat([rows.positive_RP, rows.negative_RC], dim=1))
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


@pytest.mark.parametrize("positives", ["all", "random", "easy", "hardest"])
def test_partners_are_the_positives_own_rows(batch, positives):
    rows, _ = BatchMiner(positives)(batch, None, "euclidean").rows(slice(None))
    for i, p in rows.has_positive_RP.nonzero().tolist():
        partner = rows.partner_RP[i, p]
        assert partner in relatives(batch.labels_B, i)
        expected = similarity(batch.x_BD[i], batch.x_BD[partner], "euclidean")
        torch.testing.assert_close(rows.positive_RP[i, p], expected)


def test_the_easy_positive_is_the_nearest_of_the_class_and_never_the_sample_itself():
    """Here each has an exact copy in another class, and two of a class are the same point."""
    x, labels = embeddings(sizes=(4, 3, 2))
    same = relatives(labels, 0)
    x[same[0]] = x[0]
    batch = Batch(torch.cat([x, x]), torch.cat([x, x]), torch.cat([labels, labels + 3]))
    rows, _ = BatchMiner("easy")(batch, None, "squared_euclidean").rows(slice(None))
    for i in range(len(batch.labels_B)):
        own = relatives(batch.labels_B, i)
        nearest = min(own, key=lambda j: (batch.x_BD[i] - batch.x_BD[j]).norm())
        assert rows.partner_RP[i, 0] == nearest
    assert rows.partner_RP[0, 0] == same[0]
    assert rows.positive_RP[0, 0] == 0


def test_with_two_of_each_class_the_easy_positive_is_the_only_one():
    x, labels = embeddings(sizes=(2, 2, 2, 2))
    batch = Batch(x, x, labels)
    every, easy = (
        BatchMiner(how)(batch, None, "dot").rows(slice(None))[0] for how in ("all", "easy")
    )
    for name in ("positive_RP", "has_positive_RP", "negative_RC", "partner_RP"):
        assert torch.equal(getattr(every, name), getattr(easy, name))


@pytest.mark.parametrize("positives", CHOSEN)
@pytest.mark.parametrize("negatives", NEGATIVES)
def test_gradients_reach_both_points_of_each_pair(batch, positives, negatives):
    def total(x):
        given = Batch(x, x, batch.labels_B)
        rows, _ = BatchMiner(positives, negatives)(given, None, "euclidean").rows(slice(None))
        return (
            rows.positive_RP[rows.has_positive_RP].sum()
            + rows.negative_RC[rows.has_negative_RC & rows.has_positive_RP.any(1, keepdim=True)]
            .square()
            .sum()
        )

    def reference(x):
        given = [
            (
                [similarity(x[i], x[j], "euclidean") for j in relatives(batch.labels_B, i)],
                [similarity(x[i], x[j], "euclidean") for j in strangers(batch.labels_B, i)],
            )
            for i in range(16)
        ]
        every = itertools.chain(*loop(given, positives, negatives))
        rows = [row for row in every if row[0]]
        return sum(itertools.chain(*(own for own, _ in rows))) + sum(
            s * s for _, others in rows for s in others
        )

    for made, expected in zip(
        value_and_slope(total, batch.x_BD), value_and_slope(reference, batch.x_BD), strict=True
    ):
        torch.testing.assert_close(made, expected)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"positives": "easiest"}, r"mining\.positives is 'easiest'.*all, random, easy, hardest"),
        ({"negatives": "semi"}, r"mining\.negatives is 'semi'.*semi_hard"),
        ({"synthetic": "both"}, r"mining\.synthetic is 'both'.*hardest, synthetic"),
    ],
)
def test_settings_that_do_not_exist(wrong, message):
    with pytest.raises(UserError, match=message):
        BatchMiner(**wrong)
