"""SCHEM's batches: the anchors' class, and what is hardest for it."""

import numpy as np
import pytest

from rhs.data.hard_class_sampler import HardClassBatchSampler
from rhs.errors import UserError

LABELS = np.repeat(np.arange(8), [5, 4, 6, 3, 4, 1, 2, 4])


def unit(values: np.ndarray) -> np.ndarray:
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def state(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return unit(random.normal(size=(len(LABELS), 6))), unit(random.normal(size=(8, 6)))


def composed(
    alpha=1.0, beta=1.0, seed=0, epoch=0, **changes
) -> tuple[HardClassBatchSampler, np.ndarray]:
    plan = HardClassBatchSampler(
        LABELS, **({"classes": 3, "per_class": 2, "seed": seed} | changes), alpha=alpha, beta=beta
    )
    plan.set_batches(epoch, plan.plan_epoch(epoch, *state()))
    return plan, np.stack([plan.batch(epoch, step).index for step in range(plan.steps)])


def brute_force(anchors: np.ndarray, alpha: float, beta: float) -> tuple[list[int], list[int]]:
    """P_c and P_s, in plain Python."""
    x, signatures = state()
    own = LABELS[anchors[0]]

    def group(v) -> float:
        return max(float(x[i] @ v) for i in anchors)

    counts = np.bincount(LABELS)
    classes = [c for c in range(8) if c != own and counts[c] > 1]
    classes = sorted(classes, key=lambda c: -group(signatures[c]))[: int(alpha * 2)]
    samples = [i for i in range(len(LABELS)) if LABELS[i] in classes]
    return classes, sorted(samples, key=lambda i: -group(x[i]))[: int(beta * 4)]


def test_with_pools_of_one_batch_it_takes_the_hardest():
    _, batches = composed()
    for batch in batches:
        anchors, rest = batch[:2], batch[2:]
        assert len(set(LABELS[anchors])) == 1
        assert len(set(anchors)) == 2
        assert sorted(rest) == sorted(brute_force(anchors, 1, 1)[1])


def test_with_larger_pools_it_draws_from_them():
    _, batches = composed(alpha=2.5, beta=1.5)
    drawn = []
    for batch in batches:
        classes, samples = brute_force(batch[:2], 2.5, 1.5)
        assert len(classes) == 5
        assert set(batch[2:]) <= set(samples)
        assert len(set(batch[2:])) == 4
        drawn.append(set(batch[2:]) == set(samples[:4]))
    assert not all(drawn)


def test_batches_are_a_function_of_seed_epoch_and_state():
    _, batches = composed(alpha=2, beta=2)
    np.testing.assert_array_equal(composed(alpha=2, beta=2)[1], batches)
    assert (composed(alpha=2, beta=2, seed=1)[1] != batches).any()
    assert (composed(alpha=2, beta=2, epoch=1)[1] != batches).any()


def test_rounding_does_not_change_them():
    plan, batches = composed()
    x, signatures = state()
    noise = np.random.default_rng(1).normal(size=x.shape) * 1e-9
    np.testing.assert_array_equal(plan.plan_epoch(0, x + noise, signatures), batches)


def test_the_order_within_the_pools_does_not_change_what_is_drawn():
    """Two that are as hard but for rounding may change places, and world sizes differ in that."""
    plan, batches = composed(alpha=2.5, beta=2.0)
    x, signatures = state()
    noise = np.random.default_rng(1).normal(size=x.shape) * 1e-4
    again = plan.plan_epoch(0, x + noise, signatures)
    same = [set(one) == set(other) for one, other in zip(again, batches, strict=True)]
    assert np.mean(same) > 0.5  # the pools' edges may move, but an order alone moves nothing
    order = {tuple(row) for row in again} & {tuple(row) for row in batches}
    assert len(order) == sum(same)


def test_every_class_is_the_anchor_before_any_is_again():
    plan, _ = composed()
    usable = {c for c in range(8) if c != 5}  # class 5 has one image
    own = []
    for epoch in range(6):
        plan.set_batches(epoch, plan.plan_epoch(epoch, *state()))
        own += [LABELS[plan.batch(epoch, step).index[0]] for step in range(plan.steps)]
    for start in range(0, len(own) - 7, 7):
        assert set(own[start : start + 7]) == usable


@pytest.mark.parametrize("per_class", [2, 6])  # of six, images come twice within a batch
def test_a_repeated_image_is_told_apart(per_class):
    plan, _ = composed(per_class=per_class)
    seen: dict[int, int] = {}
    for step in range(plan.steps):
        slot = plan.batch(0, step)
        for image, draw in zip(slot.index.tolist(), slot.repeat.tolist(), strict=True):
            assert draw == seen.get(image, 0)
            seen[image] = draw + 1


def test_a_batch_holds_at_most_its_pools_classes():
    for alpha in (1.0, 2.5):
        _, batches = composed(alpha=alpha, beta=2.0)
        assert max(len(set(LABELS[batch])) for batch in batches) <= int(alpha * 2) + 1


def test_a_class_smaller_than_its_share_comes_with_repeats():
    _, batches = composed(per_class=4, classes=2)
    for batch in batches:
        anchors = batch[:4]
        size = (LABELS[anchors[0]] == LABELS).sum()
        assert len(set(anchors.tolist())) == min(size, 4)


def test_it_says_how_many_images_an_epoch_holds():
    plan = HardClassBatchSampler(LABELS, 3, 2, 0)
    said = plan.set_batches(2, plan.plan_epoch(2, *state()))
    held = len({i for step in range(plan.steps) for i in plan.batch(2, step).index})
    assert said == f"epoch 3 holds {held} of {len(LABELS)} images, the hardest"


@pytest.mark.parametrize("wrong", [0.5, 0, float("nan"), float("inf"), "large", None])
@pytest.mark.parametrize("name", ["alpha", "beta"])
def test_pools_smaller_than_a_batch(name, wrong):
    with pytest.raises(UserError, match=rf"method\.batches\.{name} is .*number at least 1"):
        HardClassBatchSampler(LABELS, 3, 2, 0, **{name: wrong})
