"""What holds for every loss: rows with nothing in them, the order of the batch, turned spaces."""

import pytest
import torch
from brute_force_losses import DIM, embeddings, objective, some_rows, value_and_slope

from rhs.methods.batch import AnchorSimilarities
from rhs.methods.losses.angular import Angular
from rhs.methods.losses.contrastive import Contrastive
from rhs.methods.losses.lifted import FORMS, Lifted
from rhs.methods.losses.log_ratio import LogRatio
from rhs.methods.losses.margin import Margin
from rhs.methods.losses.multi_similarity import MultiSimilarity
from rhs.methods.losses.normalized_softmax import NormalizedSoftmax
from rhs.methods.losses.npair import NPair
from rhs.methods.losses.triplet import Triplet
from rhs.methods.mining.batch import BatchMiner
from rhs.methods.mining.pairs import PairMiner

OF_TRIPLES = {  # 0 where either kind of pair is missing
    "triplet": Triplet,
    "triplet_all": lambda: Triplet(average="all"),
    "triplet_soft": lambda: Triplet(None),
    "npair": lambda: NPair(2.0),
    "npair_ovo": lambda: NPair(2.0, "ovo"),
    "multi_similarity": MultiSimilarity,
    "angular": Angular,
} | {f"lifted_{form}": lambda form=form: Lifted(form=form) for form in FORMS}
OF_PAIRS = {
    "contrastive": Contrastive,
    "contrastive_distance": lambda: Contrastive(squared=False),
    "margin": Margin,
    "multi_similarity_all": lambda: MultiSimilarity(margin=None),
}
OF_ROWS = OF_TRIPLES | OF_PAIRS
OF_LABELS = ("log_ratio", "normalized_softmax")


def measures_of(name: str) -> tuple[str, ...]:
    return ("dot",) if name in OF_LABELS else OF_ROWS[name]().measures


def value_and_slopes(name: str, rows: AnchorSimilarities) -> tuple[float, list[torch.Tensor]]:
    inputs = rows.positive_RP.requires_grad_(), rows.negative_RC.requires_grad_()
    value = OF_ROWS[name]()(rows)
    slopes = torch.autograd.grad(value, inputs, allow_unused=True)
    given = [torch.zeros_like(x) if g is None else g for g, x in zip(slopes, inputs, strict=True)]
    return value.item(), given


@pytest.mark.parametrize("name", OF_ROWS)
def test_what_is_masked_out_has_no_part(name):
    rows, changed = some_rows(), some_rows()
    changed.positive_RP[~changed.has_positive_RP] = 7.0
    changed.negative_RC[~changed.has_negative_RC] = -3.0
    value, slopes = value_and_slopes(name, rows)
    assert value > 0
    torch.testing.assert_close(value_and_slopes(name, changed)[0], value)
    assert (slopes[0][~rows.has_positive_RP] == 0).all()
    assert (slopes[1][~rows.has_negative_RC] == 0).all()
    assert (slopes[0] <= 0).all()  # a closer positive is a lower loss
    assert (slopes[1] >= 0).all()


@pytest.mark.parametrize("missing", ["positives", "negatives", "both"])
@pytest.mark.parametrize("name", OF_ROWS)
def test_a_kind_of_pair_that_is_missing(name, missing):
    rows = some_rows()
    if missing != "negatives":
        rows.has_positive_RP[:] = False
    if missing != "positives":
        rows.has_negative_RC[:] = False
    value, slopes = value_and_slopes(name, rows)
    if name in OF_TRIPLES or missing == "both":
        assert value == 0
        assert all((slope == 0).all() for slope in slopes)
    else:
        assert 0 < value < float("inf")
        assert all(slope.isfinite().all() for slope in slopes)


@pytest.mark.parametrize("shape", [(0, 1, 0), (0, 3, 4)])
@pytest.mark.parametrize("name", OF_ROWS)
def test_empty_rows(name, shape):
    """Disjoint pairs of a batch without any are [0, 1] positives and [0, 0] negatives."""
    positive, negative = (torch.randn(shape[0], count).double() for count in shape[1:])
    rows = AnchorSimilarities(
        positive,
        torch.zeros_like(positive, dtype=torch.bool),
        negative,
        torch.zeros_like(negative, dtype=torch.bool),
        torch.zeros(shape[0], dtype=torch.long),
    )
    value, slopes = value_and_slopes(name, rows)
    assert value == 0
    assert all((slope == 0).all() for slope in slopes)


MINED = [
    (name, mining, measure)
    for name in OF_ROWS
    for measure in measures_of(name)
    for mining in (BatchMiner, PairMiner)
    if (name, mining) != ("angular", BatchMiner)
]


@pytest.mark.parametrize(("name", "mining", "measure"), MINED)
def test_a_batch_without_any_pair(name, mining, measure):
    x, _ = embeddings(sizes=(3,))
    made = mining(both_ends=True) if name == "angular" else mining()
    loss = objective(OF_ROWS[name](), torch.arange(3), made, measure=measure)
    value, slope = value_and_slope(loss, x)
    if mining is PairMiner or name in OF_TRIPLES:
        assert value == 0
        assert (slope == 0).all()
    assert value.isfinite()
    assert slope.isfinite().all()


@pytest.mark.parametrize("name", OF_ROWS)
def test_one_row(name):
    rows = some_rows(1, 2, 3)
    value, slopes = value_and_slopes(name, rows)
    assert 0 <= value < float("inf")
    assert all(slope.isfinite().all() for slope in slopes)


@pytest.mark.parametrize("name", OF_ROWS)
def test_large_similarities_in_single_precision_are_finite(name):
    random = torch.Generator().manual_seed(0)
    values = [-1e4 * torch.rand(4, count, generator=random) for count in (2, 3)]
    masks = [torch.ones_like(x, dtype=torch.bool) for x in values]
    rows = AnchorSimilarities(values[0], masks[0], values[1], masks[1], torch.arange(4))
    value, slopes = value_and_slopes(name, rows)
    assert 0 < value < float("inf")
    assert all(slope.isfinite().all() for slope in slopes)


def of_batch(name: str, measure: str, labels: torch.Tensor, turn: torch.Tensor | None = None):
    """The loss of a batch; what it learned turned along with the space."""
    if name == "log_ratio":
        loss = LogRatio()
        values = torch.rand(6, 2, generator=torch.Generator().manual_seed(0)).double()
        loss.prepare(6, DIM, values)
        return objective(loss, labels)
    if name == "normalized_softmax":
        torch.manual_seed(0)
        loss = NormalizedSoftmax()
        loss.prepare(6, DIM)
        loss.double()
        if turn is not None:
            loss.signatures.weight.data @= turn
        return objective(loss, labels)
    mining = PairMiner(both_ends=True) if name == "angular" else BatchMiner()
    return objective(OF_ROWS[name](), labels, mining, measure=measure)


EVERY = [(name, measure) for name in (*OF_ROWS, *OF_LABELS) for measure in measures_of(name)]


@pytest.mark.parametrize(("name", "measure"), EVERY)
def test_the_order_of_the_batch_does_not_matter(name, measure):
    """Of the angular loss: as long as each class keeps its own order, hence its pairs."""
    x, labels = embeddings()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(1))
    if name == "angular":
        order = torch.cat([(labels == label).nonzero()[:, 0] for label in (3, 0, 5, 1, 4, 2)])
    value, slope = value_and_slope(of_batch(name, measure, labels), x)
    shuffled = value_and_slope(of_batch(name, measure, labels[order]), x[order])
    assert value > 0
    torch.testing.assert_close(shuffled[0], value)
    torch.testing.assert_close(shuffled[1], slope[order])


@pytest.mark.parametrize(("name", "measure"), EVERY)
def test_a_turned_space_has_the_same_loss_and_the_turned_gradient(name, measure):
    x, labels = embeddings()
    random = torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(DIM, DIM, generator=random, dtype=torch.float64))[0]
    value, slope = value_and_slope(of_batch(name, measure, labels), x)
    turned = value_and_slope(of_batch(name, measure, labels, turn), x @ turn)
    assert value > 0
    torch.testing.assert_close(turned[0], value)
    torch.testing.assert_close(turned[1], slope @ turn)


@pytest.mark.parametrize(
    ("name", "measure"), [pair for pair in EVERY if pair[1] != "dot" or pair[0] == "log_ratio"]
)
def test_distances_do_not_see_where_the_origin_is(name, measure):
    x, labels = embeddings()
    value, slope = value_and_slope(of_batch(name, measure, labels), x)
    moved = value_and_slope(
        of_batch(name, measure, labels), x + torch.linspace(-1, 2, DIM).double()
    )
    torch.testing.assert_close(moved[0], value)
    torch.testing.assert_close(moved[1], slope)
