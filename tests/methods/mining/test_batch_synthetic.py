"""Generated points among what every sample may choose from, against loops."""

from functools import partial

import pytest
import torch
from brute_force_losses import DIM, MEASURES, embeddings, entries, relatives, similarity, strangers

from rhs.methods.batch import HARDER, Batch, SyntheticPoints
from rhs.methods.generators.intra_class import IntraClass
from rhs.methods.generators.rotation import Rotation
from rhs.methods.generators.symmetric import Symmetric
from rhs.methods.mining.batch import BatchMiner
from rhs.methods.sums import mean

SIDE = ("all", "easy", "hardest")


@pytest.fixture
def batch() -> Batch:
    x, labels = embeddings()
    random = torch.Generator().manual_seed(3)
    centers = 0.5 * torch.randn(6, DIM, generator=random, dtype=torch.float64)
    return Batch(x, x, labels, centers[labels], normalized=False)


def rotated(batch: Batch, i: int, j: int) -> torch.Tensor:
    a, p, c = batch.x_BD[i], batch.x_BD[j], batch.centers_BD[i]
    return c + (p - c).norm() * (c - a) / (c - a).norm()


def mirrored(batch: Batch, i: int, j: int) -> torch.Tensor:
    a, p = batch.x_BD[i], batch.x_BD[j]
    return 2 * (p @ a) / (a @ a) * a - p


MADE = {"rotation": (Rotation(), rotated), "symmetric": (Symmetric(), mirrored)}


def close(batch: Batch, i: int, point: torch.Tensor, measure: str) -> float:
    return similarity(batch.x_BD[i], point, measure).item()


def chosen_pairs(batch: Batch, how: str, measure: str) -> list[tuple[int, int]]:
    pairs = []
    for i in range(len(batch.x_BD)):
        own = relatives(batch.labels_B, i)
        own.sort(key=lambda j: close(batch, i, batch.x_BD[j], measure))
        pairs += [(i, j) for j in {"all": own, "easy": own[-1:], "hardest": own[:1]}[how]]
    return pairs


def of_others(batch: Batch, i: int, points, measure: str) -> list[float]:
    """Of the originals of other classes and of points [(label, where)] made for them."""
    there = [batch.x_BD[j] for j in strangers(batch.labels_B, i)]
    there += [point for label, point in points if label != batch.labels_B[i]]
    return [close(batch, i, point, measure) for point in there]


def pick(how: str, values: list[float]) -> list[float]:
    return {"all": sorted(values), "hardest": [max(values)], "easy": [min(values)]}[how]


def assert_same_rows(rows, expected: list[tuple[list[float], list[float]]]) -> None:
    for made, row in zip(entries(rows), expected, strict=True):
        for values, expected_values in zip(made, row, strict=True):
            assert sorted(float(v) for v in values) == pytest.approx(sorted(expected_values))


def mine(batch: Batch, mining: BatchMiner, generator, measure: str, with_plain: bool = False):
    generate = partial(generator, batch, progress=1.0)
    return mining(
        batch, lambda a, p: generate(anchor_N=a, positive_N=p), measure, with_plain=with_plain
    ).rows(slice(None))


@pytest.mark.parametrize("others", [True, False])
@pytest.mark.parametrize("synthetic", ["hardest", "synthetic"])
@pytest.mark.parametrize(
    ("positives", "negatives"),
    [("all", "all"), ("all", "hardest"), ("easy", "hardest"), ("hardest", "easy")],
)
@pytest.mark.parametrize("generator", MADE)
@pytest.mark.parametrize("measure", MEASURES)
def test_points_made_for_pairs(batch, measure, generator, positives, negatives, synthetic, others):
    made_by, by_hand = MADE[generator]
    mining = BatchMiner(positives, negatives, synthetic, others)
    rows, plain = mine(batch, mining, made_by, measure)
    assert plain is None
    pairs = {(i, j): by_hand(batch, i, j) for i, j in chosen_pairs(batch, positives, measure)}
    points = [(batch.labels_B[i], point) for (i, _), point in pairs.items()] if others else []
    expected = []
    for i in range(len(batch.x_BD)):
        own = []
        for (anchor, j), point in pairs.items():
            if anchor == i:
                values = [close(batch, i, point, measure), close(batch, i, batch.x_BD[j], measure)]
                own.append(min(values) if synthetic == "hardest" else values[0])
        expected.append((own, pick(negatives, of_others(batch, i, points, measure))))
    assert_same_rows(rows, expected)


def test_a_semi_hard_negative_is_farther_than_the_harder_positive(batch):
    mining = BatchMiner("easy", "semi_hard", synthetic_negatives=False)
    rows, _ = mine(batch, mining, MADE["rotation"][0], "euclidean")
    for i, j in chosen_pairs(batch, "easy", "euclidean"):
        own = min(
            close(batch, i, point, "euclidean") for point in (batch.x_BD[j], rotated(batch, i, j))
        )
        others = of_others(batch, i, [], "euclidean")
        expected = max([s for s in others if s < own], default=min(others))
        assert rows.positive_RP[i, 0].item() == pytest.approx(own)
        assert rows.negative_RC[i, 0].item() == pytest.approx(expected)


LABELS_M = torch.tensor(
    [0, 4, 0, 9, 1]
)  # class 4 has one sample, class 9 none, 2, 3 and 5 no point


def of_classes(batch: Batch, anchor_N, positive_N, progress) -> SyntheticPoints:
    random = torch.Generator().manual_seed(5)
    x_MD = torch.randn(5, DIM, generator=random, dtype=torch.float64)
    return SyntheticPoints(x_MD, LABELS_M, torch.zeros(5, dtype=torch.long))


@pytest.mark.parametrize("others", [True, False])
@pytest.mark.parametrize("negatives", SIDE)
@pytest.mark.parametrize("positives", SIDE)
@pytest.mark.parametrize("measure", MEASURES)
def test_points_made_for_whole_classes(batch, measure, positives, negatives, others):
    """They are further positives of every sample of the class, also of one that is alone."""
    rows, _ = mine(
        batch, BatchMiner(positives, negatives, synthetic_negatives=others), of_classes, measure
    )
    points = list(zip(LABELS_M, of_classes(batch, None, None, 0).x_MD, strict=True))
    nearest = {"all": "all", "easy": "hardest", "hardest": "easy"}[positives]
    expected = []
    for i, label in enumerate(batch.labels_B):
        own = [close(batch, i, batch.x_BD[j], measure) for j in relatives(batch.labels_B, i)]
        own += [close(batch, i, point, measure) for of, point in points if of == label]
        away = of_others(batch, i, points if others else [], measure)
        expected.append((pick(nearest, own) if own else [], pick(negatives, away)))
    assert_same_rows(rows, expected)
    assert rows.partner_RP is None
    alone = (batch.labels_B == 4).nonzero()[0]
    assert rows.has_positive_RP[alone].sum() == 1


def test_points_drawn_around_an_anchor_are_among_its_positives(batch):
    generator = IntraClass(draws=2)
    generator.prepare(6, DIM)  # no variance yet: each point is where its sample is
    rows, _ = mine(batch, BatchMiner(), generator, "euclidean")
    for i, (own, _) in enumerate(entries(rows)):
        relatives_i = relatives(batch.labels_B, i)
        assert sum(float(value) == 0 for value in own) == 2
        assert len(own) == 3 * len(relatives_i) + 2


def test_no_points_for_any_class_leave_the_rows_as_they_are(batch):
    def none(batch, anchor_N, positive_N, progress) -> SyntheticPoints:
        return SyntheticPoints(batch.x_BD[:0], batch.labels_B[:0], batch.labels_B[:0])

    made, _ = mine(batch, BatchMiner(), none, "dot")
    plain, _ = BatchMiner()(batch, None, "dot").rows(slice(None))
    assert torch.equal(made.positive_RP, plain.positive_RP)
    assert torch.equal(made.negative_RC, plain.negative_RC)


@pytest.mark.parametrize("generator", [MADE["rotation"][0], of_classes])
def test_the_rows_of_originals_alone_come_along_if_asked_for(batch, generator):
    _, plain = mine(batch, BatchMiner("easy", "hardest"), generator, "euclidean", with_plain=True)
    expected, _ = BatchMiner("easy", "hardest")(batch, None, "euclidean").rows(slice(None))
    for name in ("positive_RP", "has_positive_RP", "negative_RC", "has_negative_RC", "labels_R"):
        assert torch.equal(getattr(plain, name), getattr(expected, name))


@pytest.mark.parametrize("measure", MEASURES)
def test_what_is_told_about_points_made_for_pairs(batch, measure):
    rows, _ = mine(batch, BatchMiner(), MADE["rotation"][0], measure)
    pairs = chosen_pairs(batch, "all", measure)
    gained = [
        close(batch, i, batch.x_BD[j], measure) - close(batch, i, rotated(batch, i, j), measure)
        for i, j in pairs
    ]
    points = [(batch.labels_B[i], rotated(batch, i, j)) for i, j in pairs]
    wins = [
        max(of_others(batch, i, points, measure)) > max(of_others(batch, i, [], measure)) + HARDER
        for i in range(16)
    ]
    told = {name: mean(sums) for name, sums in rows.diagnostics.items()}
    assert told["hardness_gained"].item() == pytest.approx(sum(gained) / len(gained))
    assert told["synthetic_harder"].item() == sum(g > HARDER for g in gained) / len(gained)
    assert told["synthetic_negatives"].item() == sum(wins) / 16
    assert 0 < sum(wins) < 16
    assert told["rotations_unmoved"] == 0
    assert not any(value.requires_grad for value in told.values())


def test_what_is_told_about_points_made_for_classes(batch):
    rows, _ = mine(batch, BatchMiner(synthetic_negatives=False), of_classes, "dot")
    points = of_classes(batch, None, None, 0).x_MD
    gained = []
    for i, label in enumerate(batch.labels_B):
        own = [close(batch, i, batch.x_BD[j], "dot") for j in relatives(batch.labels_B, i)]
        made = [close(batch, i, points[m], "dot") for m in range(5) if LABELS_M[m] == label]
        if own:
            gained.append(min(own) - min(own + made))
    told = {name: mean(sums) for name, sums in rows.diagnostics.items()}
    assert told["hardness_gained"].item() == pytest.approx(sum(gained) / len(gained))
    assert told["synthetic_harder"].item() == sum(g > HARDER for g in gained) / len(gained)
    assert "synthetic_negatives" not in told
