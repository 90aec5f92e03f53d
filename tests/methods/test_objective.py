"""The composition: what holds for every method, and for the rotation in particular."""

import pytest
import torch
import torch.nn.functional as F
from tiny import METHODS, method_config

from rhs.build import build
from rhs.errors import UserError
from rhs.methods.centers import BatchCenters, EMACenters
from rhs.methods.generators import Rotation, Symmetric
from rhs.methods.losses.npair import NPair
from rhs.methods.mining import PairMining
from rhs.methods.objective import Objective, check_method

CLASSES, DIM = 6, 8


def embeddings(per_class: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(CLASSES).repeat_interleave(per_class)
    prototypes = torch.randn(CLASSES, DIM, generator=random)
    return (
        (prototypes[labels] + 0.7 * torch.randn(len(labels), DIM, generator=random)).double(),
        labels,
    )


def objective(name: str, classes: int = CLASSES, dim: int = DIM) -> torch.nn.Module:
    made = build(method_config(name))
    made.prepare(classes, dim)
    return made.double()


def value_and_gradient(made, x, labels, progress=0.6):
    x = x.clone().requires_grad_()
    torch.manual_seed(0)
    loss, diagnostics = made(x, labels, progress)
    loss.backward()
    return loss.item(), x.grad, diagnostics


def rhs(centers=None, positives="hardest", fraction=1.0, **more) -> Objective:
    centers = centers or BatchCenters()
    made = Objective(NPair(), PairMining(positives), Rotation(fraction, fraction), centers, **more)
    made.prepare(CLASSES, DIM)
    return made.double()


@pytest.mark.parametrize("positives", ["hardest", "synthetic"])
def test_two_per_class_about_their_own_mean_do_not_move(positives):
    x, labels = embeddings(per_class=2)
    plain = value_and_gradient(Objective(NPair(), PairMining()), x, labels)
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
        plain = value_and_gradient(Objective(NPair(), PairMining()), x, labels)
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
    plain = value_and_gradient(Objective(NPair(), PairMining(), scale=16.0), x, labels)
    still = value_and_gradient(rhs(fraction=0.0, scale=16.0), x, labels)
    assert still[0] == plain[0]
    torch.testing.assert_close(still[1], plain[1])


def test_the_schedule_follows_progress():
    x, labels = embeddings(per_class=4)
    made = Objective(NPair(), PairMining("hardest"), Rotation(0.0, 1.0), BatchCenters())
    for progress in (0.0, 0.4, 1.0):
        loss = value_and_gradient(made, x, labels, progress)[0]
        assert loss == value_and_gradient(rhs(fraction=progress), x, labels)[0]


def test_plain_weight_mixes_in_the_original_pairs():
    x, labels = embeddings(per_class=4)
    plain = value_and_gradient(Objective(NPair(), PairMining()), x, labels)
    hard = value_and_gradient(rhs(), x, labels)
    for weight in (0.25, 1.0):
        mixed = value_and_gradient(rhs(plain_weight=weight), x, labels)
        torch.testing.assert_close(mixed[0], weight * plain[0] + (1 - weight) * hard[0])
        torch.testing.assert_close(mixed[1], weight * plain[1] + (1 - weight) * hard[1])


def test_scale_multiplies_similarities_of_unit_vectors():
    x, labels = embeddings(per_class=2)
    scaled = value_and_gradient(Objective(NPair(), PairMining(), scale=4.0), x, labels)[0]
    unit = 2 * F.normalize(x)
    by_hand = value_and_gradient(Objective(NPair(), PairMining(), normalize=False), unit, labels)[0]
    torch.testing.assert_close(scaled, by_hand)


@pytest.mark.parametrize("method", METHODS)
def test_the_order_of_classes_in_the_batch_does_not_matter(method):
    """Nor how they are interleaved, as long as each class keeps its own order, hence its pairs."""
    x, labels = embeddings(per_class=4)
    random = torch.Generator().manual_seed(0)
    keys = torch.rand(CLASSES, 4, generator=random).sort(1).values.flatten()
    order = keys.argsort()
    one, other = objective(method), objective(method)
    for progress in (0.3, 0.6):
        loss, gradient, _ = value_and_gradient(one, x, labels, progress)
        shuffled = value_and_gradient(other, x[order], labels[order], progress)
        torch.testing.assert_close(shuffled[0], loss)
        torch.testing.assert_close(shuffled[1], gradient[order])
        x = x.roll(1, dims=1)


@pytest.mark.parametrize("per_class", [2, 4])
@pytest.mark.parametrize("method", METHODS)
def test_a_turned_embedding_has_the_same_loss_and_the_turned_gradient(method, per_class):
    """Also at a class's first sight, where rounding must not choose between p and p'."""
    random = torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(DIM, DIM, generator=random).double())[0]
    one, other = objective(method), objective(method)
    for seed in range(2):
        x, labels = embeddings(per_class, seed)
        loss, gradient, _ = value_and_gradient(one, x, labels)
        turned = value_and_gradient(other, x @ turn, labels)
        torch.testing.assert_close(turned[0], loss)
        torch.testing.assert_close(turned[1], gradient @ turn)


@pytest.mark.parametrize("method", METHODS)
def test_normalized_methods_do_not_see_lengths(method):
    if not method_config(method).get("normalize", True):
        pytest.skip("it is for embeddings of any length")
    x, labels = embeddings(per_class=4)
    lengths = torch.rand(len(x), 1, generator=torch.Generator().manual_seed(0)).double() + 0.5
    loss = value_and_gradient(objective(method), x, labels)[0]
    torch.testing.assert_close(value_and_gradient(objective(method), x * lengths, labels)[0], loss)


def degenerate(case: str, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    x, labels = embeddings(per_class=4)
    if case == "identical":
        x = x[:1].repeat(len(x), 1)
    elif case == "identical within classes":
        x = x[::4].repeat_interleave(4, dim=0)
    elif case == "zeros":
        x = torch.zeros_like(x)
    elif case == "one zero":
        x[0] = 0
    elif case == "opposite":
        x = x[::2].repeat_interleave(2, dim=0) * torch.tensor([[1.0], [-1.0]]).repeat(
            len(x) // 2, 1
        )
    elif case == "one class alone":
        labels = torch.zeros_like(labels)
    elif case == "one sample alone in its class":
        labels = torch.cat([labels[:-4], torch.tensor([4, 4, 4, 5])])
    elif case == "one pair":
        x, labels = x[:2], labels[:2]
    return x.to(dtype), labels


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "case",
    ["identical", "identical within classes", "zeros", "one zero", "opposite", "one class alone",
     "one sample alone in its class", "one pair"],
)  # fmt: skip
@pytest.mark.parametrize("method", METHODS)
def test_loss_and_gradient_are_finite(method, case, dtype):
    made = objective(method).to(dtype)
    for progress in (0.0, 0.6, 1.0):  # memories fill up meanwhile
        x, labels = degenerate(case, dtype)
        loss, gradient, diagnostics = value_and_gradient(made, x, labels, progress)
        assert torch.isfinite(torch.tensor(loss))
        assert torch.isfinite(gradient).all()
        assert all(torch.isfinite(value).all() for value in diagnostics.values())
    assert all(torch.isfinite(value).all() for value in made.state_dict().values())


@pytest.mark.parametrize("method", METHODS)
def test_a_step_along_the_gradient_lowers_the_loss(method):
    x, labels = embeddings(per_class=4)
    made = objective(method)
    loss, gradient, _ = value_and_gradient(made, x, labels)
    fresh = objective(method)
    assert value_and_gradient(fresh, x - 1e-3 * gradient, labels)[0] < loss


def test_settings_that_cannot_work():
    with pytest.raises(UserError, match=r"method\.centers is null.*Rotation"):
        Objective(NPair(), PairMining(), Rotation())
    Objective(NPair(), PairMining(), Symmetric())
    with pytest.raises(UserError, match=r"method\.plain_weight is 1\.5"):
        Objective(NPair(), PairMining(), plain_weight=1.5)


@pytest.mark.parametrize("wrong", [{"scale": "x"}, {"plain_weight": "x"}, {"l2": "x"}])
def test_a_text_for_a_number_is_a_sentence(wrong):
    config = method_config("rhs_npair") | {"name": "rhs_npair"} | wrong
    with pytest.raises(UserError, match="method rhs_npair does not work as it is set"):
        check_method(config)
