"""The composition: what goes in and out of its parts, and what the rotation does to the loss."""

import math

import pytest
import torch
import torch.nn.functional as F
from random_batches import CLASSES, DIM, embeddings, value_and_gradient
from tiny_project import method_config, prepared

from rhs.errors import UserError
from rhs.methods.centers import BatchCenters, EMACenters, EpochCenters, SignatureCenters
from rhs.methods.check_method import check_method
from rhs.methods.generators.intra_class import IntraClass
from rhs.methods.generators.rotation import Rotation
from rhs.methods.losses.log_ratio import LogRatio
from rhs.methods.losses.normalized_softmax import NormalizedSoftmax
from rhs.methods.losses.npair import NPair
from rhs.methods.losses.triplet import Triplet
from rhs.methods.mining.batch import BatchMiner
from rhs.methods.mining.pairs import PairMiner
from rhs.methods.objective import Objective


def npair(**more) -> Objective:
    return Objective(NPair(**more), PairMiner())


def rhs(centers=None, positives="hardest", fraction=1.0, scale=1.0, **more) -> Objective:
    parts = {"generator": Rotation(fraction, fraction), "centers": centers or BatchCenters()}
    made = Objective(NPair(scale), PairMiner(positives), **parts | more)
    made.prepare(CLASSES, DIM)
    return made.double()


@pytest.mark.parametrize("positives", ["hardest", "synthetic"])
def test_two_per_class_about_their_own_mean_do_not_move(positives):
    x, labels = embeddings(per_class=2)
    plain = value_and_gradient(npair(), x, labels)
    moved = value_and_gradient(rhs(positives=positives), x, labels)
    assert moved[2]["rotations_unmoved"] == 1
    assert moved[2]["synthetic_harder"] == 0
    torch.testing.assert_close(moved[0], plain[0])
    torch.testing.assert_close(moved[1], plain[1])


def test_centers_that_remember_move_two_per_class_from_the_second_batch_on():
    made = rhs(EMACenters(0.5))
    *_, first = value_and_gradient(made, *embeddings(2, seed=0))
    *_, second = value_and_gradient(made, *embeddings(2, seed=1))
    assert first["rotations_unmoved"] == 1
    assert second["rotations_unmoved"] == 0


@pytest.mark.parametrize("per_class", [3, 4, 8])
@pytest.mark.parametrize("fraction", [0.3, 1.0])
def test_the_hardest_positive_never_lowers_the_loss(per_class, fraction):
    for seed in range(5):
        x, labels = embeddings(per_class, seed)
        plain = value_and_gradient(npair(), x, labels)
        harder = value_and_gradient(rhs(fraction=fraction), x, labels)
        assert harder[0] > plain[0]
        assert harder[2]["rotations_unmoved"] == 0
        assert harder[2]["hardness_gained"] > 0


@pytest.mark.parametrize("per_class", [4, 8, 16])
@pytest.mark.parametrize("noise", [0.3, 1.0, 2.0])
def test_about_the_mean_of_unit_vectors_every_rotated_positive_is_harder(per_class, noise):
    """Raw dot products guarantee no such thing; see the identities in test_geometry.py."""
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(CLASSES).repeat_interleave(per_class)
    prototypes = F.normalize(torch.randn(CLASSES, 64, generator=random).double())
    spread = torch.randn(len(labels), 64, generator=random).double() * noise / 8
    *_, diagnostics = value_and_gradient(rhs(), prototypes[labels] + spread, labels)
    assert diagnostics["synthetic_harder"] == 1


def test_more_rotation_is_a_higher_loss():
    x, labels = embeddings(per_class=4)
    losses = [value_and_gradient(rhs(fraction=t), x, labels)[0] for t in (0, 0.25, 0.5, 0.75, 1)]
    assert losses == sorted(losses)
    assert len(set(losses)) == 5


def test_no_rotation_is_the_n_pair_loss():
    x, labels = embeddings(per_class=4)
    plain = value_and_gradient(npair(scale=16.0), x, labels)
    still = value_and_gradient(rhs(fraction=0.0, scale=16.0), x, labels)
    assert still[0] == plain[0]
    torch.testing.assert_close(still[1], plain[1])


def test_the_schedule_follows_progress():
    x, labels = embeddings(per_class=4)
    made = rhs(generator=Rotation(0.0, 1.0))
    for progress in (0.0, 0.4, 1.0):
        loss = value_and_gradient(made, x, labels, progress)[0]
        assert loss == value_and_gradient(rhs(fraction=progress), x, labels)[0]


MININGS = {
    "pairs": (PairMiner("hardest"), PairMiner()),
    "batch": (BatchMiner("all", "all"), BatchMiner("all", "all")),
}


@pytest.mark.parametrize("mining", MININGS)
def test_original_weight_mixes_in_the_original_samples(mining):
    x, labels = embeddings(per_class=4)
    rotated, alone = MININGS[mining]
    parts = (NPair(), rotated, "dot", Rotation(), BatchCenters())
    hard = value_and_gradient(Objective(*parts), x, labels)
    original = value_and_gradient(Objective(NPair(), alone), x, labels)
    for weight in (0.25, 1.0):
        mixed = value_and_gradient(Objective(*parts, original_weight=weight), x, labels)
        for i in range(2):
            torch.testing.assert_close(mixed[i], weight * original[i] + (1 - weight) * hard[i])
        assert mixed[2] == hard[2]


def test_embeddings_are_put_on_the_sphere_and_only_if_wanted():
    x, labels = embeddings(per_class=2)
    as_it_is = Objective(NPair(), PairMiner(), normalize=False)
    loss = value_and_gradient(npair(), x, labels)[0]
    assert loss == value_and_gradient(as_it_is, F.normalize(x), labels)[0]
    assert loss != value_and_gradient(as_it_is, x, labels)[0]


def test_the_regularizer_is_half_the_mean_squared_length():
    x, labels = embeddings(per_class=2)
    loss, regular = (
        value_and_gradient(Objective(NPair(), PairMiner(), normalize=False, l2=l2), x, labels)
        for l2 in (0.0, 0.3)
    )
    squares = sum(value * value for row in x.tolist() for value in row)
    torch.testing.assert_close(regular[0] - loss[0], 0.5 * 0.3 * squares / len(x))
    torch.testing.assert_close(regular[1] - loss[1], 0.3 * x / len(x))


@pytest.mark.parametrize("weight", [1.0, 0.3])
def test_signatures_add_their_own_loss(weight):
    x, labels = embeddings(per_class=4)
    parts = {"signatures": NormalizedSoftmax(), "centers": SignatureCenters()}
    torch.manual_seed(0)
    made = rhs(**parts, signature_weight=weight)
    softmax = Objective(made.signatures)
    alone = rhs(**parts, signature_weight=0.0)
    alone.load_state_dict(made.state_dict())
    whole, without, added = (value_and_gradient(m, x, labels) for m in (made, alone, softmax))
    for i in range(2):
        torch.testing.assert_close(whole[i], without[i] + weight * added[i])
    assert softmax.loss.signatures.weight.grad.abs().max() > 0


def training_set() -> list[tuple[torch.Tensor, torch.Tensor]]:
    x, labels = embeddings(per_class=5, seed=3)
    lengths = 1 + torch.arange(len(x))[:, None] % 3
    return list(zip((x * lengths).split(7), labels.split(7), strict=True))


def test_a_pass_over_the_training_set_gives_centers_unit_embeddings_and_generators_raw_ones():
    samples = training_set()
    x, labels = (torch.cat(part) for part in zip(*samples, strict=True))
    rotated = (Triplet(), BatchMiner(), "euclidean", Rotation(), EpochCenters())
    drawn = Objective(Triplet(), BatchMiner(), "euclidean", IntraClass(few=0))
    unit, free = Objective(*rotated), Objective(*rotated[:-1], EpochCenters(), normalize=False)
    for made in (drawn, unit, free):
        made.prepare(CLASSES, DIM)
        made.double().refresh(0, iter(samples))
    for label in range(CLASSES):
        own = x[labels == label]
        torch.testing.assert_close(drawn.generator.variance_CD[label], own.var(0, correction=0))
        torch.testing.assert_close(unit.centers.center_CD[label], F.normalize(own).mean(0))
        torch.testing.assert_close(free.centers.center_CD[label], own.mean(0))


@pytest.mark.parametrize(
    ("generator", "centers", "part", "epochs"),
    [
        (IntraClass(every=2, few=0), None, "generator", (0, 2, 4, 6)),
        (Rotation(), EpochCenters(every=3), "centers", (0, 3, 6)),
    ],
)
def test_only_the_parts_that_are_due_see_it(generator, centers, part, epochs):
    made = Objective(Triplet(), BatchMiner(), "euclidean", generator, centers)
    made.prepare(CLASSES, DIM)
    changed = []
    for epoch in range(7):
        before = {name: value.clone() for name, value in made.state_dict().items()}
        due = made.needs_refresh(epoch)
        samples = [(x + epoch * torch.rand_like(x), labels) for x, labels in training_set()]
        made.refresh(epoch, samples)
        after = made.state_dict()
        changed.append({k.split(".")[0] for k in after if not torch.equal(after[k], before[k])})
        assert due == bool(changed[-1])
    assert changed == [{part} if epoch in epochs else set() for epoch in range(7)]
    assert not any(npair().needs_refresh(epoch) for epoch in range(3))


def test_continuous_labels_reach_the_loss_that_takes_them():
    values = torch.rand(CLASSES, 2, generator=torch.Generator().manual_seed(0)).double()
    made = Objective(LogRatio(), normalize=False)
    made.prepare(CLASSES, DIM, values_CL=values)
    x, labels = embeddings(per_class=2)
    loss = value_and_gradient(made, x, labels)[0]
    assert loss == LogRatio().of_values(x, values[labels]).item()
    own = torch.rand(len(labels), 3, generator=torch.Generator().manual_seed(1)).double()
    made = Objective(LogRatio(), normalize=False)
    made.prepare(CLASSES, DIM, images_have_values=True)
    assert made(x, labels, values=own)[0] == LogRatio().of_values(x, own)
    with pytest.raises(UserError, match="name each class folder by a number"):
        Objective(LogRatio(), normalize=False).prepare(CLASSES, DIM)


@pytest.mark.parametrize("method", ["npair", "rhs_npair", "symm_npair", "normalized_softmax"])
def test_every_diagnostic_is_a_number_without_gradient(method):
    *_, told = value_and_gradient(prepared(method, CLASSES, DIM), *embeddings(per_class=4))
    assert {"intra_inter_ratio", "effective_rank"} <= told.keys()
    assert all(value.shape == () and not value.requires_grad for value in told.values())
    synthetic = {"hardness_gained", "synthetic_harder"} <= told.keys()
    assert synthetic == (method in ("rhs_npair", "symm_npair"))
    assert ("rotations_unmoved" in told) == (method == "rhs_npair")


WRONG = [
    ({"loss": {"_target_": "rhs.methods.losses.npair.NPair", "scale": "x"}}, r"loss\.scale is 'x'"),
    ({"original_weight": "x"}, r"method\.original_weight is 'x'"),
    ({"l2": "x"}, r"method\.l2 is 'x'; it must be a number\."),
    ({"loss": "x"}, r"method\.loss is 'x'; it must be a group"),
    ({"original_weight": math.nan}, r"method\.original_weight is nan"),
    ({"los": 1}, r"method\.los is unknown; accepted: loss, .* the nearest known is method\.loss"),
]


@pytest.mark.parametrize(("wrong", "message"), WRONG)
def test_a_setting_that_cannot_work_is_a_sentence(wrong, message):
    config = method_config("rhs_npair") | {"name": "rhs_npair"}
    check_method(config)
    with pytest.raises(UserError, match=message):
        check_method(config | wrong)


def test_a_check_without_continuous_labels_says_what_is_missing():
    config = method_config("log_ratio") | {"name": "log_ratio"}
    with pytest.raises(UserError, match="this data set has none"):
        check_method(config)
    check_method(config, images_have_values=True)
    check_method(config, values_CL=torch.arange(4.0)[:, None])


@pytest.mark.parametrize("classes", [1, 3, 30])
def test_a_check_gives_the_objective_for_so_many_classes_and_dimensions(classes):
    made = check_method(method_config("normalized_softmax") | {"name": "it"}, classes, dim=5)
    assert made.loss.signatures.weight.shape == (classes, 5)
