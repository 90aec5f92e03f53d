"""Class centers against a plain reference that loops."""

import pytest
import torch

from rhs.errors import UserError
from rhs.methods.centers import BatchCenters, EMACenters, batch_sums

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
    classes, sums, counts, row = batch_sums(x, labels, labels)
    assert classes.tolist() == [1, 4, 7]
    assert counts[:, 0].tolist() == [1, 3, 1]
    torch.testing.assert_close(sums[1], x[0] + x[2] + x[3])
    assert classes[row].tolist() == labels.tolist()


def test_batch_centers_are_means_with_gradient():
    x, labels = steps()[0]
    x.requires_grad_()
    centers = BatchCenters()
    centers.prepare(10, 3)
    c = centers(x, labels, labels)
    for i, label in enumerate(labels.tolist()):
        torch.testing.assert_close(c[i], mean_of(x, labels, label))
    c[0].sum().backward()
    third = torch.ones(3).double() / 3
    for i in range(5):
        torch.testing.assert_close(x.grad[i], third if labels[i] == 4 else 0 * third)
    assert not centers.state_dict()


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_moving_average_with_bias_correction(momentum):
    centers = EMACenters(momentum)
    centers.prepare(10, 3)
    centers.double()
    average, updates = {}, {}
    for x, labels in steps():
        c = centers(x.requires_grad_(), labels, labels)
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
    centers(x, labels, labels)
    before = {name: value.clone() for name, value in centers.state_dict().items()}
    assert before["updates_C"].tolist() == [0, 1, 0, 0, 1, 0, 0, 1, 0, 0]
    centers(other_x, other_labels, other_labels)
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
    one(first[0], first[1], first[1])
    other.load_state_dict(one.state_dict())
    torch.testing.assert_close(
        one(second[0], second[1], second[1]), other(second[0], second[1], second[1]), rtol=0, atol=0
    )


def test_many_updates_do_not_overflow():
    centers = EMACenters(0.5)
    centers.prepare(2, 3)
    x = torch.ones(2, 3)
    labels = torch.tensor([0, 1])
    centers.updates_C += 100_000
    centers.average_CD += 1
    torch.testing.assert_close(centers(x, labels, labels), x)


@pytest.mark.parametrize("momentum", [-0.1, 1.0, 2])
def test_momentum_out_of_range(momentum):
    with pytest.raises(UserError, match=f"centers.momentum is {momentum}"):
        EMACenters(momentum)
