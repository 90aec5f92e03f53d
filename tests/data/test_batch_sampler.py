"""The batch plan: what an epoch deals out, whoever asks and in whichever order."""

import itertools

import numpy as np
import pytest

from rhs.data.batch_sampler import BalancedBatchSampler
from rhs.errors import UserError

EVEN = [8] * 12
# like glyphs; like Stanford Online Products; a few large classes; classes of one image
UNEVEN = {
    "near": [12, 13, 14, 15, 16, 12, 13, 16, 15, 14, 12],
    "small": [2, 3, 2, 5, 4, 2, 2, 7, 3, 2, 2, 12, 2, 2, 6],
    "singletons": [1, 4, 1, 6, 5, 1, 8, 3, 2, 1],
    "one large": [40, 3, 4, 2, 5, 3, 4, 2],
}
SHAPES = [(4, 2), (4, 3), (2, 4), (6, 2)]


def labels_of(sizes: list[int]) -> np.ndarray:
    labels = np.repeat(np.arange(len(sizes)) * 3 + 1, sizes)  # labels with gaps
    return np.random.default_rng(0).permutation(labels)


def epoch_of(plan: BalancedBatchSampler, epoch: int):
    slots = [plan.batch(epoch, step) for step in range(plan.steps)]
    return np.stack([s.index for s in slots]), np.stack([s.repeat for s in slots])


CASES = [(EVEN, 4, 2), *((sizes, *shape) for sizes in UNEVEN.values() for shape in SHAPES)]


@pytest.mark.parametrize(("sizes", "classes", "per_class"), CASES)
def test_every_image_that_has_a_positive_is_dealt_out(sizes, classes, per_class):
    labels = labels_of(sizes)
    plan = BalancedBatchSampler(labels, classes, per_class, seed=1)
    counts = np.bincount(labels)
    usable = np.flatnonzero(counts[labels] > 1)
    for epoch in range(3):
        image, _ = epoch_of(plan, epoch)
        dealt = np.unique(image)
        assert set(dealt) <= set(usable)
        assert len(usable) - len(dealt) == plan.left_out
        if plan.left_out == 0:
            # every image once before any is there twice, but for what fills up groups and batches
            assert image.size >= len(usable)


def test_nothing_is_left_out_unless_a_class_is_larger_than_the_epoch_is_long():
    assert BalancedBatchSampler(labels_of(EVEN), 4, 2, 0).left_out == 0
    for name in ("near", "small", "singletons"):
        assert BalancedBatchSampler(labels_of(UNEVEN[name]), 4, 2, 0).left_out == 0
    # of 40 images a class of an epoch of few batches shows one group a batch
    plan = BalancedBatchSampler(labels_of(UNEVEN["one large"]), 4, 2, 0)
    assert plan.left_out == 40 - 2 * plan.steps > 0


def test_what_one_epoch_leaves_out_comes_in_others():
    labels = labels_of(UNEVEN["one large"])
    plan = BalancedBatchSampler(labels, 4, 2, 0)
    seen = {int(i) for epoch in range(40) for i in epoch_of(plan, epoch)[0].flat}
    assert seen == set(range(len(labels)))


@pytest.mark.parametrize(("sizes", "classes", "per_class"), CASES)
def test_a_batch_has_runs_of_distinct_classes(sizes, classes, per_class):
    labels = labels_of(sizes)
    plan = BalancedBatchSampler(labels, classes, per_class, seed=2)
    assert plan.batch_size == classes * per_class
    image, draw = epoch_of(plan, 0)
    assert image.shape == draw.shape == (plan.steps, plan.batch_size)
    for row in labels[image].reshape(-1, classes, per_class):
        assert (row == row[:, :1]).all()
        assert len(set(row[:, 0])) == classes


@pytest.mark.parametrize(("sizes", "classes", "per_class"), CASES)
def test_draws_count_the_times_an_image_came_before(sizes, classes, per_class):
    plan = BalancedBatchSampler(labels_of(sizes), classes, per_class, seed=3)
    image, draw = epoch_of(plan, 0)
    pairs = list(zip(image.flat, draw.flat, strict=True))
    assert len(set(pairs)) == len(pairs)
    for i in set(image.flat):
        draws = sorted(d for j, d in pairs if j == i)
        assert draws == list(range(len(draws)))


def test_images_of_even_classes_come_once():
    plan = BalancedBatchSampler(labels_of(EVEN), 4, 2, seed=0)
    image, draw = epoch_of(plan, 0)
    assert sorted(image.flat) == list(range(96))
    assert (draw == 0).all()


def test_a_group_repeats_an_image_only_where_its_class_is_smaller():
    plan = BalancedBatchSampler(labels_of([3, 5, 2, 7]), 2, 4, seed=0)
    for group in epoch_of(plan, 0)[0].reshape(-1, 4):
        size = (plan.labels == plan.labels[group[0]]).sum()
        assert len(set(group)) == min(4, size)


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_the_shares_of_all_ranks_are_the_batch(world_size):
    plan = BalancedBatchSampler(labels_of(UNEVEN["near"]), 4, 2, seed=0)
    for step in range(plan.steps):
        whole = plan.batch(1, step)
        shares = [whole.local(rank, world_size) for rank in range(world_size)]
        assert {len(share.index) for share in shares} == {8 // world_size}
        assert np.array_equal(np.concatenate([s.index for s in shares]), whole.index)
        assert np.array_equal(np.concatenate([s.repeat for s in shares]), whole.repeat)


def test_a_pure_function_of_seed_epoch_and_step():
    labels = labels_of(UNEVEN["small"])
    reference = BalancedBatchSampler(labels, 4, 2, seed=5)
    expected = {
        (epoch, step): reference.batch(epoch, step).index.copy()
        for epoch, step in itertools.product(range(5), range(reference.steps))
    }
    fresh = BalancedBatchSampler(labels.copy(), 4, 2, seed=5)
    np.random.seed(7)  # the global state has no part in it
    keys = list(expected)
    for k in np.random.default_rng(0).permutation(len(keys)):
        assert np.array_equal(fresh.batch(*keys[k]).index, expected[keys[k]])
    alone = BalancedBatchSampler(labels, 4, 2, seed=5).batch(*keys[-1])
    assert np.array_equal(alone.index, expected[keys[-1]])


def test_epochs_and_seeds_differ():
    labels = labels_of(EVEN)
    plan = BalancedBatchSampler(labels, 4, 2, seed=0)
    assert not np.array_equal(epoch_of(plan, 0)[0], epoch_of(plan, 1)[0])
    assert not np.array_equal(
        epoch_of(plan, 0)[0], epoch_of(BalancedBatchSampler(labels, 4, 2, 1), 0)[0]
    )


def test_classes_meet_different_classes():
    """Over a few epochs a class is in batches with every other one."""
    labels = labels_of(EVEN)
    plan = BalancedBatchSampler(labels, 4, 2, seed=0)
    met = np.zeros((40, 40), dtype=bool)
    for epoch in range(6):
        for row in labels[epoch_of(plan, epoch)[0]]:
            met[np.ix_(row, row)] = True
    present = np.unique(labels)
    assert met[np.ix_(present, present)].all()


def test_large_plans_are_quick():
    sizes = np.random.default_rng(0).integers(2, 13, size=11_318)
    plan = BalancedBatchSampler(np.repeat(np.arange(len(sizes)), sizes), 64, 2, seed=0)
    assert plan.left_out == 0
    assert len(np.unique(epoch_of(plan, 0)[0])) == sizes.sum()


@pytest.mark.parametrize(
    ("sizes", "classes", "per_class", "message"),
    [
        ([4] * 5, 6, 2, r"classes is 6.*between 2 and 5"),
        ([4, 4, 1, 1, 1], 3, 2, r"classes is 3.*between 2 and 2"),
        ([4] * 5, 1, 2, r"classes is 1"),
        ([4] * 5, 4, 1, r"per_class is 1.*2 images or more"),
        ([1] * 5, 2, 2, r"classes is 2"),
    ],
)
def test_what_the_data_cannot_satisfy(sizes, classes, per_class, message):
    with pytest.raises(UserError, match=message):
        BalancedBatchSampler(labels_of(sizes), classes, per_class, seed=0)


def test_a_seed_is_not_negative():
    with pytest.raises(UserError, match="seed is -1"):
        BalancedBatchSampler(labels_of(EVEN), 4, 2, seed=-1)


@pytest.mark.parametrize(("workers", "fits"), [(3, 2), (5, 4), (7, 4), (9, 8), (16, 8)])
def test_workers_that_do_not_divide_the_batch(workers, fits):
    plan = BalancedBatchSampler(labels_of(EVEN), 4, 2, seed=0)
    with pytest.raises(UserError, match=f"num_workers = {workers}; {fits} workers would fit"):
        plan.check_workers(workers)


@pytest.mark.parametrize("workers", [0, -2])
def test_no_workers(workers):
    with pytest.raises(UserError, match=f"num_workers is {workers}"):
        BalancedBatchSampler(labels_of(EVEN), 4, 2, seed=0).check_workers(workers)


@pytest.mark.parametrize("workers", [1, 2, 4, 8])
def test_workers_that_divide_the_batch(workers):
    BalancedBatchSampler(labels_of(EVEN), 4, 2, seed=0).check_workers(workers)
