"""The N-pair losses: golden values, against loops, and against another library."""

import itertools

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
    unit,
)
from tiny_project import method_config

from rhs.errors import UserError
from rhs.methods.generators.geometry import reflect
from rhs.methods.losses.npair import NPair
from rhs.methods.mining.batch import BatchMiner
from rhs.methods.mining.pairs import PairMiner
from rhs.methods.objective import build_objective

A = torch.tensor([[1, 0], [0, 1], [1, 1]]).double()
P = torch.tensor([[0.8, 0.2], [0.1, 0.9], [1.2, 0.7]]).double()
PAIRS = torch.stack([A, P], dim=1).reshape(6, 2)
LABELS = torch.arange(3).repeat_interleave(2)
REGULARIZER = 0.00123833


def brute_force(rows, scale, form):
    values = []
    for positives, negatives in rows:
        for positive in positives:
            terms = [(scale * (negative - positive)).exp() for negative in negatives]
            values.append(
                (1 + sum(terms)).log() if form == "mc" else sum((1 + e).log() for e in terms)
            )
    return mean(values)


@pytest.mark.parametrize(("form", "expected"), [("mc", 0.8431158), ("ovo", 0.9999447)])
def test_golden_values(form, expected):
    loss = objective(NPair(form=form), LABELS, PairMiner())
    torch.testing.assert_close(loss(PAIRS).item(), expected, rtol=0, atol=5e-8)


def test_golden_regularizer():
    plain, regular = (objective(NPair(), LABELS, PairMiner(), l2=l2)(PAIRS) for l2 in (0, 0.002))
    torch.testing.assert_close((regular - plain).item(), REGULARIZER, rtol=0, atol=5e-9)


def test_golden_symmetrical_synthesis_as_it_was_released():
    loss, _ = build_objective(method_config("symm_npair_released"))(PAIRS, LABELS)
    torch.testing.assert_close(loss.item(), 0.9990205 + REGULARIZER, rtol=0, atol=5e-8)


def test_golden_symmetrical_synthesis_with_original_positives_is_harder():
    """With lengths that differ the released code's positive can be easier than the original."""
    config = method_config("symm_npair_released")
    mining = config["mining"] | {"positives": "original"}
    loss, _ = build_objective(config | {"mining": mining, "l2": 0.0})(PAIRS, LABELS)
    assert loss > 0.9990205 + 0.01


def released_loss(classes: torch.Tensor) -> torch.Tensor:
    """Symmetrical Synthesis in its authors' form, without regularizer: a softmax over all pairs,
    with the target spread evenly over those of the row's class."""
    roles = [A, P, reflect(P, A), reflect(A, P)]
    most = torch.stack([x @ y.T for x, y in itertools.combinations(roles, 2)]).amax(0)
    same = (classes[:, None] == classes).double()
    return -(same / same.sum(1, keepdim=True) * most.log_softmax(1)).sum(1).mean()


@pytest.mark.parametrize(
    ("classes", "released", "ours"),
    [((0, 1, 2), 0.9990205, 0.9990205), ((0, 0, 1), 1.1615982, 0.8481498)],
)
def test_the_released_loss_is_ours_with_one_pair_a_class_and_not_with_two(classes, released, ours):
    classes = torch.tensor(classes)
    config = method_config("symm_npair_released") | {"l2": 0.0}
    loss, _ = build_objective(config)(PAIRS, classes.repeat_interleave(2))
    torch.testing.assert_close(released_loss(classes).item(), released, rtol=0, atol=5e-8)
    torch.testing.assert_close(loss.item(), ours, rtol=0, atol=5e-8)


@pytest.mark.parametrize("form", ["mc", "ovo"])
@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(("mining", "rows"), [(BatchMiner, lists), (PairMiner, pair_lists)])
def test_against_a_loop(mining, rows, measure, form):
    x, labels = embeddings()
    ours = objective(NPair(2.5, form), labels, mining(), measure=measure)
    assert_agree(ours, lambda x: brute_force(rows(x, labels, measure), 2.5, form), x)


@pytest.mark.parametrize("form", ["mc", "ovo"])
def test_of_unit_vectors_against_a_loop(form):
    x, labels = embeddings()
    ours = objective(NPair(16.0, form), labels, BatchMiner(), normalize=True)
    assert_agree(ours, lambda x: brute_force(lists(unit(x), labels, "dot"), 16.0, form), x)


def test_agrees_with_pytorch_metric_learning_on_two_of_each_class():
    """Of larger classes it takes the first pair only, and by default it normalizes."""
    x, labels = embeddings(sizes=(2, 2, 2, 2, 2))
    distance = library("distances").DotProductSimilarity(normalize_embeddings=False)
    theirs = library("losses").NPairsLoss(distance=distance)
    assert_agree(objective(NPair(), labels, PairMiner()), lambda x: theirs(x, labels), x)


def test_two_classes_make_both_forms_the_same():
    x, labels = embeddings(sizes=(2, 2))
    both = [objective(NPair(form=form), labels, PairMiner()) for form in ("mc", "ovo")]
    assert_agree(*both, x)


def test_multi_class_bounds_one_versus_one_from_below():
    x, labels = embeddings()
    mc, ovo = (objective(NPair(form=form), labels, BatchMiner())(x) for form in ("mc", "ovo"))
    assert 0 < mc < ovo


@pytest.mark.parametrize("form", ["mc", "ovo"])
def test_large_similarities_do_not_overflow(form):
    x = 1000 * torch.eye(4)[[0, 1, 1, 0]].clone().requires_grad_()
    loss = objective(NPair(form=form), torch.tensor([0, 0, 1, 1]), PairMiner())(x)
    torch.testing.assert_close(loss.item(), 1e6)
    assert torch.isfinite(torch.autograd.grad(loss, x)[0]).all()


def test_a_form_that_does_not_exist():
    with pytest.raises(UserError, match=r"loss\.form is 'all'; it must be mc or ovo"):
        NPair(form="all")
