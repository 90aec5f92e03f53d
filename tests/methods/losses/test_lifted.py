"""The lifted structured loss: golden value, against loops, and against another library."""

import pytest
import torch
from brute_force_losses import (
    MEASURES,
    assert_agree,
    embeddings,
    library,
    lists,
    mean,
    objective,
    pair_lists,
    relatives,
    similarity,
    some_rows,
    strangers,
)

from rhs.errors import UserError
from rhs.methods.batch import AnchorSimilarities
from rhs.methods.losses.lifted import Lifted
from rhs.methods.mining.batch import BatchMiner
from rhs.methods.mining.pairs import PairMiner


def of_pair(form, margin, positive, negatives):
    """1/2 [J]_+^2 with D = -similarity; `negatives` are those of all the row's ends."""
    if form == "exact":
        ends = max(margin + s for s in negatives)
    else:
        ends = sum((margin + s).exp() for s in negatives).log()
    return (ends - positive).clamp(min=0) ** 2 / 2


def brute_force(x, labels, measure, margin, form):
    """Each unordered pair once, against all negatives of both ends."""
    values = []
    for i in range(len(x)):
        for j in relatives(labels, i):
            if i < j:
                negatives = [
                    similarity(x[end], x[k], measure)
                    for end in (i, j)
                    for k in strangers(labels, end)
                ]
                positive = similarity(x[i], x[j], measure)
                values.append(of_pair(form, margin, positive, negatives))
    return mean(values)


def generalized(x, labels, measure, margin):
    values = []
    for positives, negatives in lists(x, labels, measure):
        if positives and negatives:
            apart = sum((-s).exp() for s in positives).log()
            near = sum((margin + s).exp() for s in negatives).log()
            values.append((apart + near).clamp(min=0))
    return mean(values)


@pytest.fixture
def square():
    x = torch.tensor([[0, 0], [0.6, 0], [1, 1], [1, 0.4]]).double()
    return x, torch.tensor([0, 0, 1, 1])


def test_golden_value(square):
    x, labels = square
    loss = objective(Lifted(1.0), labels, BatchMiner(), measure="euclidean")
    torch.testing.assert_close(loss(x).item(), 2.0006327, rtol=0, atol=5e-8)


def test_the_exact_form_by_hand(square):
    """Of both pairs the closest negatives are 0.566 apart: J = 0.6 + 1 - 0.566."""
    x, labels = square
    loss = objective(Lifted(1.0, "exact"), labels, BatchMiner(), measure="euclidean")
    torch.testing.assert_close(loss(x).item(), (0.6 + 1 - 0.32**0.5) ** 2 / 2)


@pytest.mark.parametrize("form", ["smooth", "exact"])
@pytest.mark.parametrize("measure", MEASURES)
def test_against_a_loop(measure, form):
    x, labels = embeddings()
    ours = objective(Lifted(0.7, form), labels, BatchMiner(), measure=measure)
    assert_agree(ours, lambda x: brute_force(x, labels, measure, 0.7, form), x)


@pytest.mark.parametrize("measure", MEASURES)
def test_generalized_against_a_loop(measure):
    x, labels = embeddings()
    ours = objective(Lifted(0.7, "generalized"), labels, BatchMiner(), measure=measure)
    assert_agree(ours, lambda x: generalized(x, labels, measure, 0.7), x)


@pytest.mark.parametrize("form", ["smooth", "exact"])
def test_disjoint_pairs_have_their_own_negatives_only(form):
    x, labels = embeddings()

    def loop(x):
        return mean(
            [
                of_pair(form, 1.0, *positive, negatives)
                for positive, negatives in pair_lists(x, labels, "euclidean")
            ]
        )

    assert_agree(objective(Lifted(1.0, form), labels, PairMiner(), measure="euclidean"), loop, x)


@pytest.mark.parametrize("form", ["smooth", "exact", "generalized"])
def test_rows_without_a_negative_or_without_a_positive_do_not_count(form):
    whole, bare = some_rows(), some_rows()
    bare.has_negative_RC[4] = False
    kept = [r for r in range(7) if r not in (0, 1, 4)]  # 0 has no positive, 1 no negative
    names = ("positive_RP", "has_positive_RP", "negative_RC", "has_negative_RC", "labels_R")
    few = AnchorSimilarities(*(getattr(whole, name)[kept] for name in names))
    assert Lifted(form=form)(few) > 0
    torch.testing.assert_close(Lifted(form=form)(bare), Lifted(form=form)(few))


def test_smooth_agrees_with_pytorch_metric_learning():
    x, labels = embeddings()
    distance = library("distances").LpDistance(normalize_embeddings=False)
    theirs = library("losses").LiftedStructureLoss(0.7, distance=distance)
    ours = objective(Lifted(0.7), labels, BatchMiner(), measure="euclidean")
    assert_agree(ours, lambda x: theirs(x, labels), x, rtol=1e-6, atol=1e-8)


def test_generalized_agrees_with_pytorch_metric_learning_on_classes_of_two_or_more():
    """A sample alone in its class counts there, with its negatives only; here it does not."""
    x, labels = embeddings(sizes=(5, 4, 3, 2))
    distance = library("distances").LpDistance(normalize_embeddings=False)
    theirs = library("losses").GeneralizedLiftedStructureLoss(0.7, distance=distance)
    ours = objective(Lifted(0.7, "generalized"), labels, BatchMiner(), measure="euclidean")
    assert_agree(ours, lambda x: theirs(x, labels), x, rtol=1e-6, atol=1e-8)


def test_the_smooth_form_bounds_the_exact_one():
    x, labels = embeddings()
    exact, smooth = (
        objective(Lifted(1.0, form), labels, BatchMiner(), measure="euclidean")(x)
        for form in ("exact", "smooth")
    )
    assert smooth > exact > 0


def test_a_form_that_does_not_exist():
    with pytest.raises(UserError, match=r"loss\.form is 'rough'.*smooth, exact, generalized"):
        Lifted(form="rough")
