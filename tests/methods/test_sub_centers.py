"""Several centers a class, against a plain reference that loops."""

import numpy as np
import pytest
import torch
from group_jobs import CLASSES, DIM, group_batches, group_centers

from rhs.errors import UserError
from rhs.methods.centers import EMACenters, SubCenters, _first_largest


def made(groups: int, momentum: float = 0.5) -> SubCenters:
    centers = SubCenters(groups, momentum)
    centers.prepare(CLASSES, DIM)
    return centers.double()


class Looped:
    """The same rule, class by class."""

    def __init__(self, groups: int, momentum: float):
        self.groups, self.momentum = groups, momentum
        self.open = {label: [] for label in range(CLASSES)}  # of each group: (average, updates)

    def center(self, label: int, group: int) -> torch.Tensor:
        average, updates = self.open[label][group]
        return average / (1 - self.momentum**updates)

    def __call__(self, x, labels) -> torch.Tensor:
        joined = {}
        for label in set(labels.tolist()):
            rows = [i for i in range(len(x)) if labels[i] == label]
            if not self.open[label]:
                joined |= dict.fromkeys(rows, 0)
                continue
            away = {
                i: [(x[i] - self.center(label, g)).norm() for g in range(len(self.open[label]))]
                for i in rows
            }
            joined |= {i: away[i].index(min(away[i])) for i in rows}
            if len(self.open[label]) < self.groups:
                joined[max(rows, key=lambda i: min(away[i]))] = len(self.open[label])
        for label in set(labels.tolist()):
            for group in range(self.groups):
                rows = [i for i, g in joined.items() if g == group and labels[i] == label]
                if rows:
                    self.update(label, group, sum(x[i] for i in rows) / len(rows))
        return torch.stack([self.center(int(labels[i]), joined[i]) for i in range(len(x))])

    def update(self, label: int, group: int, mean: torch.Tensor) -> None:
        if group == len(self.open[label]):
            self.open[label].append((torch.zeros(DIM).double(), 0))
        average, updates = self.open[label][group]
        average = self.momentum * average + (1 - self.momentum) * mean
        self.open[label][group] = average, updates + 1


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_they_are_those_of_the_reference(groups, momentum):
    centers, reference = made(groups, momentum), Looped(groups, momentum)
    for x, labels in group_batches():
        c = centers(x.requires_grad_(), labels)
        assert not c.requires_grad
        torch.testing.assert_close(c, reference(x.detach(), labels))


def test_one_group_is_the_moving_average_of_the_class():
    one, average = made(1), EMACenters(0.5)
    average.prepare(CLASSES, DIM)
    average.double()
    for x, labels in group_batches():
        assert torch.equal(one(x, labels), average(x, labels))


def test_groups_far_apart_are_found_from_the_first_batch_of_both_on():
    centers = made(2, momentum=0.9)
    places = torch.tensor([[10.0, 0, 0], [-10, 0, 0]]).double()
    labels = torch.zeros(4, dtype=torch.long)
    shifts = torch.tensor([-0.1, 0.1]).double()[:, None] * torch.tensor([0, 1.0, 0])
    pair = places[:1] + shifts
    centers(pair, labels[:2])  # one group alone
    x = torch.cat([pair, places[1:] + shifts])
    centers(x, labels)  # the farthest row opens the second group
    for _ in range(200):
        c = centers(x, labels)
    torch.testing.assert_close(c, places.repeat_interleave(2, 0))


@pytest.mark.parametrize("world_size", [1, 2, 4])
@pytest.mark.parametrize("groups", [2, 3])
def test_every_world_size_has_the_centers_of_one_process(gloo_pool, groups, world_size):
    alone = group_centers(groups, 0.5)
    for saw in gloo_pool.run(group_centers, world_size, groups, 0.5):
        for expected, actual in zip(alone, saw, strict=True):
            np.testing.assert_allclose(actual, expected, rtol=1e-10, atol=1e-12)


def test_memory_is_saved_and_loaded():
    one, other = made(3), made(3)
    batches = group_batches()
    for x, labels in batches[:3]:
        one(x, labels)
    assert {name: tuple(v.shape) for name, v in one.state_dict().items()} == {
        "averages.average_CD": (3 * CLASSES, DIM),
        "averages.updates_C": (3 * CLASSES,),
    }
    other.load_state_dict(one.state_dict())
    for x, labels in batches[3:]:
        assert torch.equal(one(x, labels), other(x, labels))


def test_a_look_opens_no_group_and_takes_the_nearest_that_is_open():
    centers = made(3)
    batches = group_batches()
    for x, labels in batches[:2]:
        centers(x, labels)
    x, labels = batches[2]
    group = torch.arange(3 * CLASSES)
    kept, is_open = centers.averages.of(group), centers.averages.updates_C > 0
    c = centers.eval()(x, labels)
    assert torch.equal(centers.averages.updates_C > 0, is_open)
    for i, label in enumerate(labels.tolist()):
        own = kept[(group // 3 == label) & is_open]
        torch.testing.assert_close(c[i], own[(own - x[i]).norm(dim=1).argmin()])


def test_a_class_never_seen_has_a_center_at_the_origin():
    average = EMACenters(0.5)
    average.prepare(CLASSES, DIM)
    assert (average.of(torch.arange(CLASSES)) == 0).all()


def test_the_first_largest_of_each_class():
    values = torch.tensor([1.0, 3, 3, 2, 2, torch.inf, torch.inf])
    classes = torch.tensor([0, 0, 0, 1, 1, 2, 2])
    expected = [False, True, False, True, False, True, False]
    assert _first_largest(values, classes).tolist() == expected
    assert _first_largest(values[:0], classes[:0]).tolist() == []


@pytest.mark.parametrize("groups", [0, -1, 1.5])
def test_groups_out_of_range(groups):
    with pytest.raises(
        UserError, match=r"centers\.groups is .*; .* at least 1 and at most 1,000\."
    ):
        SubCenters(groups, 0.5)


def test_momentum_out_of_range():
    with pytest.raises(UserError, match=r"centers\.momentum is 1; .* below 1\."):
        SubCenters(2, 1)
