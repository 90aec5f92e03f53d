"""Class centers against a plain reference that loops."""

import pytest
import torch

from rhs.errors import UserError
from rhs.methods.centers import (
    BatchCenters,
    EMACenters,
    EpochCenters,
    LeaveOneOutCenters,
    SignatureCenters,
    batch_sums,
)
from rhs.methods.losses.normalized_softmax import NormalizedSoftmax

LABELS = [[4, 1, 4, 4, 7], [1, 1, 9, 7, 9], [4, 9, 0, 4, 7], [7, 7, 7, 7, 7]]


def steps(dim: int = 3) -> list[tuple[torch.Tensor, torch.Tensor]]:
    random = torch.Generator().manual_seed(0)
    return [
        (torch.randn(len(labels), dim, generator=random).double(), torch.tensor(labels))
        for labels in LABELS
    ]


def mean_of(x: torch.Tensor, labels: torch.Tensor, label: int) -> torch.Tensor:
    return sum(x[i] for i in range(len(x)) if labels[i] == label) / int((labels == label).sum())


def test_sums_and_counts():
    x, labels = steps()[0]
    classes, sums, counts, row = batch_sums(x, labels)
    assert classes.tolist() == [1, 4, 7]
    assert counts[:, 0].tolist() == [1, 3, 1]
    torch.testing.assert_close(sums[1], x[0] + x[2] + x[3])
    assert classes[row].tolist() == labels.tolist()


def test_batch_centers_are_means_with_gradient():
    x, labels = steps()[0]
    x.requires_grad_()
    centers = BatchCenters()
    centers.prepare(10, 3)
    c = centers(x, labels)
    for i, label in enumerate(labels.tolist()):
        torch.testing.assert_close(c[i], mean_of(x, labels, label))
    c[0].sum().backward()
    third = torch.ones(3).double() / 3
    for i in range(5):
        torch.testing.assert_close(x.grad[i], third if labels[i] == 4 else 0 * third)
    assert not centers.state_dict()


@pytest.mark.parametrize("step", range(len(LABELS)))
def test_without_the_sample_itself_centers_are_means_of_the_others_with_gradient(step):
    x, labels = steps()[step]
    x.requires_grad_()
    centers = LeaveOneOutCenters()
    centers.prepare(10, 3)
    c = centers(x, labels)
    for i in range(len(x)):
        others = [j for j in range(len(x)) if labels[j] == labels[i] and j != i] or [i]
        torch.testing.assert_close(c[i], sum(x[j] for j in others) / len(others))
        (slope,) = torch.autograd.grad(c[i].sum(), x, retain_graph=True)
        for j in range(len(x)):
            expected = 1 / len(others) if j in others else 0.0
            torch.testing.assert_close(slope[j], torch.full((3,), expected).double())
    assert not centers.state_dict()


def test_of_two_samples_each_has_the_other_for_a_center():
    x, _ = steps()[0]
    labels = torch.tensor([6, 2, 2, 6, 1])
    c = LeaveOneOutCenters()(x, labels)
    torch.testing.assert_close(c, x[[3, 2, 1, 0, 4]])


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_moving_average_with_bias_correction(momentum):
    centers = EMACenters(momentum)
    centers.prepare(10, 3)
    centers.double()
    average, updates = {}, {}
    for x, labels in steps():
        c = centers(x.requires_grad_(), labels)
        for label in set(labels.tolist()):
            old = average.get(label, torch.zeros(3).double())
            mean = mean_of(x, labels, label).detach()
            average[label] = momentum * old + (1 - momentum) * mean
            updates[label] = updates.get(label, 0) + 1
        assert not c.requires_grad
        for i, label in enumerate(labels.tolist()):
            expected = average[label] / (1 - momentum ** updates[label])
            torch.testing.assert_close(c[i], expected)
            if updates[label] == 1:
                torch.testing.assert_close(c[i], mean_of(x, labels, label))


def test_only_classes_of_the_batch_are_touched():
    centers = EMACenters(0.5)
    centers.prepare(10, 3)
    centers.double()
    (x, labels), (other_x, other_labels), *_ = steps()
    centers(x, labels)
    before = {name: value.clone() for name, value in centers.state_dict().items()}
    assert before["updates_C"].tolist() == [0, 1, 0, 0, 1, 0, 0, 1, 0, 0]
    centers(other_x, other_labels)
    for name, value in centers.state_dict().items():
        for label in range(10):
            changed = not torch.equal(value[label], before[name][label])
            assert changed == (label in other_labels), (name, label)


def test_memory_is_saved_and_loaded():
    one, other = EMACenters(0.5), EMACenters(0.5)
    for centers in (one, other):
        centers.prepare(10, 3)
        centers.double()
    first, second, *_ = steps()
    one(*first)
    other.load_state_dict(one.state_dict())
    torch.testing.assert_close(one(*second), other(*second), rtol=0, atol=0)


@pytest.mark.parametrize("looking", ["eval", "no_grad"])
def test_a_look_takes_averages_as_they_are_and_the_batch_mean_of_a_class_never_seen(looking):
    centers = EMACenters(0.5)
    centers.prepare(10, 3)
    centers.double()
    (x, labels), (other, its), *_ = steps()  # of the second, class 9 is new
    centers(x, labels)
    kept = centers.of(torch.arange(10))
    if looking == "eval":
        c = centers.eval()(other.requires_grad_(), its)
    else:
        with torch.no_grad():
            c = centers(other, its)
    assert not c.requires_grad
    for i, label in enumerate(its.tolist()):
        expected = mean_of(other, its, 9) if label == 9 else kept[label]
        torch.testing.assert_close(c[i], expected.detach())
    assert centers.updates_C.tolist() == [0, 1, 0, 0, 1, 0, 0, 1, 0, 0]


def test_many_updates_do_not_overflow():
    centers = EMACenters(0.5)
    centers.prepare(2, 3)
    x = torch.ones(2, 3)
    labels = torch.tensor([0, 1])
    centers.updates_C += 100_000
    centers.average_CD += 1
    torch.testing.assert_close(centers(x, labels), x)


@pytest.mark.parametrize("momentum", [-0.1, 1.0, 2])
def test_momentum_out_of_range(momentum):
    with pytest.raises(UserError, match=f"centers.momentum is {momentum}"):
        EMACenters(momentum)


def epoch_centers() -> EpochCenters:
    centers = EpochCenters()
    centers.prepare(10, 3)
    return centers.double()


def refresh(centers, *batches) -> None:
    sums = centers.start_refresh()
    for x, labels in batches:
        sums.add(x, labels)
    centers.finish_refresh(sums)


def test_centers_of_an_epoch_are_means_over_all_of_its_samples():
    centers, everything = epoch_centers(), steps()
    x, labels = everything[0]
    assert (centers(x, labels) == 0).all()  # before the first pass
    refresh(centers, *everything)
    all_x, all_labels = (torch.cat(part) for part in zip(*everything, strict=True))
    c = centers(x.requires_grad_(), labels)
    assert not c.requires_grad
    for i, label in enumerate(labels.tolist()):
        torch.testing.assert_close(c[i], mean_of(all_x, all_labels, label))


def test_a_second_pass_replaces_the_first_but_for_classes_that_it_does_not_hold():
    centers = epoch_centers()
    first, second, *_ = steps()
    refresh(centers, first)
    refresh(centers, second)
    for label in range(10):
        held = second if label in second[1] else first
        expected = torch.zeros(3).double()
        if label in held[1]:
            expected = mean_of(*held, label)
        torch.testing.assert_close(centers.center_CD[label], expected)
    assert centers.state_dict().keys() == {"center_CD"}


def test_means_over_many_samples_lose_no_digits():
    """A sum in single precision of 50 000 numbers near 1 000 would be off by 0.002 and more."""
    centers = EpochCenters()
    centers.prepare(1, 2)
    random = torch.Generator().manual_seed(0)
    x = 1000 + torch.randn(50_000, 2, generator=random)
    refresh(centers, *((part, torch.zeros(len(part)).long()) for part in x.split(999)))
    torch.testing.assert_close(centers.center_CD[0], x.double().mean(0).float(), rtol=1e-7, atol=0)


@pytest.mark.parametrize("every", [0, -1])
def test_epochs_between_two_passes_out_of_range(every):
    with pytest.raises(UserError, match=f"every is {every}; it must be a whole number at least 1"):
        EpochCenters(every)


def signatures(sampled: int | None) -> NormalizedSoftmax:
    made = NormalizedSoftmax(sampled=sampled)
    torch.manual_seed(0)
    made.prepare(10, 3)
    with torch.no_grad():
        made.signatures.weight.mul_(3.0)  # learned ones do not keep their length
    return made.double()


@pytest.mark.parametrize("sampled", [None, 2])
def test_signatures_are_centers_of_unit_length(sampled):
    learned, labels = signatures(sampled), torch.tensor([4, 1, 4, 7])
    centers = SignatureCenters()
    centers.prepare(10, 3)
    c = centers(learned, labels)
    assert not c.requires_grad
    for i, label in enumerate(labels.tolist()):
        torch.testing.assert_close(c[i], learned.signatures.weight[label].detach() / 3)
    assert not centers.state_dict()


@pytest.mark.parametrize("sampled", [None, 2])
def test_generated_points_may_move_the_signatures_of_their_classes_alone(sampled):
    learned, labels = signatures(sampled), torch.tensor([4, 1, 4, 7])
    SignatureCenters(gradient=True)(learned, labels).square().mul(torch.arange(3)).sum().backward()
    grad = learned.signatures.weight.grad
    assert grad.is_sparse == (sampled is not None)
    if sampled is not None:
        assert set(grad.coalesce().indices()[0].tolist()) == {1, 4, 7}
    moved = grad.to_dense().abs().amax(1) > 0
    assert moved.nonzero()[:, 0].tolist() == [1, 4, 7]
