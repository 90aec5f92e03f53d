"""Loaders: the same pixels whoever makes them."""

import numpy as np
import pytest
import torch
from tiny_project import class_image

from rhs.data.batch_sampler import BalancedBatchSampler
from rhs.data.loader import TrainLoader, evaluation_batches
from rhs.data.transforms import Augmentation
from rhs.errors import UserError


class Pictures:
    """Images in memory, which count how often they are decoded."""

    def __init__(self, sizes: list[int]):
        self.labels = np.repeat(np.arange(len(sizes)), sizes)
        self.decoded = 0

    def __len__(self) -> int:
        return len(self.labels)

    def decode(self, i: int) -> np.ndarray:
        self.decoded += 1
        return class_image(int(self.labels[i]), int(i))


LIVELY = Augmentation(scale=(0.3, 1.0), ratio=(0.7, 1.4), flip=True)


def loader(sizes=(4,) * 6, per_class=2, seed=0, rank=0, world_size=1, augmentation=LIVELY):
    pictures = Pictures(list(sizes))
    plan = BalancedBatchSampler(pictures.labels, 4, per_class, seed)
    return TrainLoader(pictures, plan, augmentation, 12, rank, world_size)


@pytest.mark.parametrize("world_size", [2, 4, 8])
def test_ranks_together_make_what_one_makes(world_size):
    one = list(loader().epoch(3))
    shares = [list(loader(rank=rank, world_size=world_size).epoch(3)) for rank in range(world_size)]
    for step, (images, labels) in enumerate(one):
        assert torch.equal(torch.cat([share[step][0] for share in shares]), images)
        assert all(torch.equal(share[step][1], labels) for share in shares)


def test_shapes_and_labels():
    made = loader()
    batches = list(made.epoch(0))
    assert len(batches) == made.plan.steps == 3
    for step, (images, labels) in enumerate(batches):
        assert images.shape == (8, 3, 12, 12)
        assert images.dtype == torch.uint8
        assert labels.dtype == torch.int64
        expected = made.images.labels[made.plan.batch(0, step).index]
        assert labels.tolist() == expected.tolist()


def test_the_same_seed_makes_the_same_pixels_and_another_one_others():
    def pixels(**settings):
        return torch.cat([images for images, _ in loader(**settings).epoch(0)])

    assert torch.equal(pixels(), pixels())
    assert not torch.equal(pixels(), pixels(seed=1))


def test_an_image_looks_different_in_each_epoch():
    made = loader()
    views = []
    for epoch in range(2):
        where = {
            int(i): (s, j)
            for s in range(made.plan.steps)
            for j, i in enumerate(made.plan.batch(epoch, s).index)
        }
        batches = list(made.epoch(epoch))
        views.append({i: batches[s][0][j] for i, (s, j) in where.items()})
    same = [torch.equal(views[0][i], views[1][i]) for i in views[0]]
    assert not any(same)


def test_repeated_draws_of_an_image_differ():
    made = loader(sizes=(2,) * 6, per_class=4)  # each group has both images twice
    images, _ = next(made.epoch(0))
    slot = made.plan.batch(0, 0)
    repeated = [(a, b) for a in range(16) for b in range(a) if slot.index[a] == slot.index[b]]
    assert len(repeated) == 8
    assert not any(torch.equal(images[a], images[b]) for a, b in repeated)


def test_an_epoch_can_be_left_half_way():
    made = loader()
    batches = made.epoch(0)
    next(batches)
    batches.close()
    assert torch.equal(next(made.epoch(0))[0], next(loader().epoch(0))[0])


def test_an_epoch_goes_on_where_it_was_left_also_at_its_end():
    made = loader()
    whole = list(made.epoch(1))
    for start in range(made.plan.steps + 1):
        rest = list(made.epoch(1, start))
        assert len(rest) == made.plan.steps - start
        for (images, labels), (expected, of) in zip(rest, whole[start:], strict=True):
            assert torch.equal(images, expected)
            assert torch.equal(labels, of)


def test_it_works_one_batch_ahead_and_no_further():
    made = loader()
    batches = made.epoch(0)
    next(batches)
    batches.close()  # waits for the one under way
    assert made.images.decoded == 16


def test_an_error_in_the_background_arrives():
    made = loader()

    def broken(i):
        raise OSError("disk gone")

    made.images.decode = broken
    with pytest.raises(OSError, match="disk gone"):
        list(made.epoch(0))


def test_a_batch_that_does_not_divide():
    with pytest.raises(UserError, match="2 workers would fit"):
        loader(world_size=3)


@pytest.mark.parametrize("batch_size", [1, 4, 5, 100])
def test_in_order_gives_every_row_once(batch_size):
    pictures = Pictures([5, 5])
    rows = [3, 1, 9, 9, 0]
    images = torch.cat(list(evaluation_batches(pictures, rows, 16, batch_size)))
    assert images.shape == (5, 3, 16, 16)
    for row, image in zip(rows, images, strict=True):
        # at its own size an image is not touched
        assert np.array_equal(image.permute(1, 2, 0).numpy(), pictures.decode(row))


def test_nothing_in_order():
    assert list(evaluation_batches(Pictures([2, 2]), [], 16, 4)) == []
