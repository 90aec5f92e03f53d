"""Parts of a method go together, or a sentence says why not; nothing in between."""

import itertools

import pytest
import torch

from rhs.errors import UserError
from rhs.methods.centers import EMACenters, SignatureCenters
from rhs.methods.generators.intra_class import IntraClass
from rhs.methods.generators.rotation import Rotation
from rhs.methods.generators.symmetric import Symmetric
from rhs.methods.losses.angular import Angular
from rhs.methods.losses.contrastive import Contrastive
from rhs.methods.losses.lifted import Lifted
from rhs.methods.losses.log_ratio import LogRatio
from rhs.methods.losses.margin import Margin
from rhs.methods.losses.multi_similarity import MultiSimilarity
from rhs.methods.losses.normalized_softmax import NormalizedSoftmax
from rhs.methods.losses.npair import NPair
from rhs.methods.losses.triplet import Triplet
from rhs.methods.mining.batch import PER_POSITIVE, POSITIVES, SHARED, BatchMiner
from rhs.methods.mining.pairs import ORIGINAL, PairMiner
from rhs.methods.mining.pairs import POSITIVES as PAIR_POSITIVES
from rhs.methods.objective import Objective

SOFTMAX = "NormalizedSoftmax takes embeddings and labels, not pairs that were chosen"
UNUSED = r"method\.centers is for a generator's points, but method\.generator is null: leave"
REFUSED = {
    "centers without a generator": (
        lambda: Objective(NPair(), PairMiner(), centers=EMACenters(0.5)),
        UNUSED,
    ),
    "a plain loss beside no other": (
        lambda: Objective(NPair(), PairMiner(), original_weight=0.5),
        r"method\.original_weight is for a generator\'s points, .*: leave it out|"
        r"method\.original_weight is for .*: leave method\.original_weight out\.",
    ),
    "centers that the generator does not take": (
        lambda: Objective(NPair(), PairMiner("hardest"), "dot", Symmetric(), EMACenters(0.5)),
        r"Symmetric takes no class centers: set method\.centers=null\.",
    ),
    "points on the sphere among others that are not": (
        lambda: Objective(
            NPair(),
            PairMiner("hardest"),
            "dot",
            Rotation(surface="renormalized"),
            EMACenters(0.5),
            normalize=False,
        ),
        r"surface is 'renormalized'.*method\.normalize is false: choose euclidean\.",
    ),
    "a text for whether to normalize": (
        lambda: Objective(NPair(), PairMiner(), normalize="no"),
        r"method\.normalize is 'no'; it must be true or false\.",
    ),
    "a negative regularizer": (
        lambda: Objective(NPair(), PairMiner(), l2=-1),
        r"method\.l2 is -1; it must be a number at least 0\.",
    ),
    "a negative weight of the signatures": (
        lambda: Objective(NPair(), PairMiner(), signature_weight=-0.5),
        r"method\.signature_weight is -0\.5; it must be a number at least 0\.",
    ),
    "an unknown measure": (
        lambda: Objective(NPair(), PairMiner(), "cosine"),
        r"method\.measure is 'cosine'; it must be one of dot, euclidean, squared_euclidean\.",
    ),
    "more than all of the plain loss": (
        lambda: Objective(NPair(), PairMiner(), original_weight=1.5),
        r"method\.original_weight is 1\.5; it must be a number at least 0 and at most 1\.",
    ),
    "less than nothing of the plain loss": (
        lambda: Objective(NPair(), PairMiner(), original_weight=-0.1),
        r"method\.original_weight is -0\.1",
    ),
    "signatures as centers without signatures": (
        lambda: Objective(NPair(), PairMiner("hardest"), "dot", Rotation(), SignatureCenters()),
        r"method\.centers is SignatureCenters, but method\.signatures is null: choose .*Softmax",
    ),
    "a loss of labels with mining": (
        lambda: Objective(NormalizedSoftmax(), PairMiner()),
        SOFTMAX + r".*: set method\.mining=null\.",
    ),
    "a loss of labels with a generator": (
        lambda: Objective(NormalizedSoftmax(), generator=Symmetric()),
        SOFTMAX + r".*: set method\.generator=null\.",
    ),
    "a loss of labels with centers": (
        lambda: Objective(LogRatio(), centers=EMACenters(0.5)),
        UNUSED,
    ),
    "a loss of rows without mining": (
        lambda: Objective(Triplet()),
        r"method\.mining is null, but the loss Triplet .*BatchMiner or .*PairMiner\.",
    ),
    "a measure that the loss does not take": (
        lambda: Objective(MultiSimilarity(), BatchMiner(), "euclidean"),
        r"method\.measure is 'euclidean'; the loss MultiSimilarity takes dot\.",
    ),
    "one of two measures that the loss does not take": (
        lambda: Objective(Margin(), BatchMiner(), "dot"),
        r"the loss Margin takes euclidean or squared_euclidean\.",
    ),
    "the angular loss on single ends": (
        lambda: Objective(Angular(), PairMiner()),
        r"loss Angular compares the sum of a pair's two ends.*PairMiner with both_ends=true\.",
    ),
    "the angular loss on the whole batch": (
        lambda: Objective(Angular(), BatchMiner()),
        r"set method\.mining to rhs\.methods\.mining\.pairs\.PairMiner with both_ends=true\.",
    ),
    "both ends for another loss": (
        lambda: Objective(NPair(), PairMiner(both_ends=True)),
        r"method\.mining\.both_ends is for the angular loss, not for NPair\.",
    ),
    "a negative for each positive for lifted pairs": (
        lambda: Objective(Lifted(), BatchMiner("all", "semi_hard"), "euclidean"),
        r"method\.mining\.negatives is 'semi_hard'.*loss Lifted.*or loss\.form=generalized\.",
    ),
    "points of a class for lifted pairs": (
        lambda: Objective(Lifted(), BatchMiner(), "euclidean", IntraClass()),
        r"IntraClass makes positives that have no negatives of their own.*loss\.form=generalized\.",
    ),
    "distances on the sphere of what is not on it": (
        lambda: Objective(
            Margin(), BatchMiner("all", "distance_weighted"), "euclidean", normalize=False
        ),
        r"mining\.negatives is 'distance_weighted'.*set method\.normalize=true or choose other",
    ),
    "a rotation about nothing": (
        lambda: Objective(NPair(), PairMiner("hardest"), "dot", Rotation()),
        r"method\.centers is null, but Rotation rotates.*for instance .*EMACenters\.",
    ),
    "points of a class for pairs": (
        lambda: Objective(NPair(), PairMiner("hardest"), "dot", IntraClass()),
        r"IntraClass makes points for a whole class, not for pairs: set method\.mining to .*Batch",
    ),
    "synthetic points that nothing makes": (
        lambda: Objective(NPair(), PairMiner("hardest")),
        r"method\.generator is null, but method\.mining compares with synthetic points: choose one",
    ),
    "synthetic negatives that nothing makes": (
        lambda: Objective(NPair(), PairMiner(negatives="all")),
        r"method\.generator is null.*for instance rhs\.methods\.generators\.symmetric\.Symmetric\.",
    ),
    "a generator whose points nothing is compared with": (
        lambda: Objective(NPair(), PairMiner(), "dot", Symmetric()),
        r"method\.generator is Symmetric, but method\.mining compares with nothing synthetic: "
        r"set mining\.positives=hardest, or name synthetic roles",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_go_together_is_a_sentence(case):
    make, sentence = REFUSED[case]
    with pytest.raises(UserError, match=sentence):
        make()


def test_the_same_parts_are_accepted_where_they_do():
    Objective(Lifted(form="generalized"), BatchMiner("all", "semi_hard"), "euclidean")
    Objective(Lifted(form="generalized"), BatchMiner(), "euclidean", IntraClass())
    Objective(Lifted(), BatchMiner("easy", "semi_hard"), "euclidean")
    Objective(Margin(), BatchMiner("all", "random"), "euclidean", normalize=False)
    Objective(Angular(), PairMiner(both_ends=True))
    Objective(NPair(), PairMiner("hardest"), "dot", Rotation(), EMACenters(0.5))
    Objective(NPair(), PairMiner(negatives="all"), "dot", Symmetric())


LOSSES = {
    "angular": Angular,
    "contrastive": Contrastive,
    "lifted smooth": Lifted,
    "lifted exact": lambda: Lifted(form="exact"),
    "lifted generalized": lambda: Lifted(form="generalized"),
    "margin": lambda: Margin(per_class=True, regularization=0.1),
    "multi-similarity": MultiSimilarity,
    "multi-similarity, all pairs": lambda: MultiSimilarity(margin=None),
    "npair mc": NPair,
    "npair ovo": lambda: NPair(form="ovo"),
    "triplet": Triplet,
    "triplet soft": lambda: Triplet(margin=None),
}
GENERATORS = (lambda: None, Rotation, Symmetric, IntraClass)
SYNTHETIC = (("anchor", "synthetic_positive"), ("positive", "anchor"))


def minings():
    """Every choice of positives and negatives; of the other settings each with many of them."""
    others = itertools.cycle([("hardest", True), ("synthetic", True), ("hardest", False)])
    for positives, negatives in itertools.product(POSITIVES, (*SHARED, *PER_POSITIVE)):
        yield BatchMiner(positives, negatives, *next(others))
    for negatives in ((ORIGINAL,), SYNTHETIC, "all"):
        for positives, both_ends in itertools.product(PAIR_POSITIVES, (False, True)):
            if not (both_ends and positives == "combined"):
                yield PairMiner(positives, negatives, both_ends)


def uneven_batch() -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    return x, torch.tensor([0, 2, 0, 1, 1, 2, 0, 2, 3])


def computes(made: Objective) -> bool:
    """Whether loss and gradients of a small batch are finite, and a loss has a gradient."""
    made.prepare(4, 4)
    x, labels = uneven_batch()
    if made.needs_refresh(0):
        made.refresh(0, [(x, labels)])
    x.requires_grad_()
    torch.manual_seed(0)
    loss, diagnostics = made(x, labels, 0.6)
    loss.backward()
    values = [loss, x.grad, *diagnostics.values(), *(p.grad for p in made.parameters())]
    finite = all(bool(torch.isfinite(v.to_dense()).all()) for v in values)
    return finite and bool((x.grad != 0).any() or loss == 0)


@pytest.mark.parametrize("loss", LOSSES)
def test_every_combination_computes_or_is_refused(loss):
    works, refused = 0, 0
    measures = itertools.cycle(LOSSES[loss]().measures)
    original_weights = itertools.cycle([0.0, 0.5])
    for mining, generator in itertools.product(minings(), GENERATORS):
        measure = next(measures)
        parts = (vars(mining), generator, measure)
        try:
            made = Objective(
                LOSSES[loss](),
                mining,
                measure,
                generator(),
                EMACenters(0.5) if generator is Rotation else None,
                original_weight=next(original_weights) if generator() else 0.0,
            )
        except UserError:
            refused += 1
            continue
        assert computes(made), parts
        works += 1
    assert works >= 10
    assert refused > 20
