"""Every way in gives the same batches, and each batch is the plan's."""

import sys
from collections import Counter
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from tiny_project import small_params, write_shards

from rhs.config.schema import read_group
from rhs.config.settings import ClusterConfig
from rhs.data.batch_sampler import BalancedBatchSampler
from rhs.data.decoded_cache import DecodedImages
from rhs.data.loader import TrainLoader
from rhs.data.open_images import check_input, input_threads
from rhs.data.ray_loader import RayTrainLoader
from rhs.data.shards import ShardedImages
from rhs.data.transforms import Augmentation
from rhs.errors import UserError

LIVELY = Augmentation((0.3, 1.0), (0.7, 1.4), flip=True, jitter={"saturation": 0.4, "hue": 0.1})


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("input") / "shards"
    return write_shards(folder, train=[5, 4, 6, 3, 4, 9, 2, 4, 1], test=[2, 2])


def plan(images) -> BalancedBatchSampler:
    return BalancedBatchSampler(images.labels, classes=4, per_class=2, seed=3)


def batches(loader: TrainLoader, epoch: int) -> list[tuple[torch.Tensor, ...]]:
    return [tuple(part.clone() for part in batch) for batch in loader.epoch(epoch)]


def assert_equal(some, others):
    assert len(some) == len(others) > 0
    for one, other in zip(some, others, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_decoded_once_or_as_needed_and_on_any_number_of_threads(shards, tmp_path):
    images = ShardedImages(shards, "train")
    expected = batches(TrainLoader(images, plan(images), LIVELY, 12), 1)
    cached = DecodedImages(shards, "train", tmp_path)
    for source, threads in ((images, 3), (cached, 1), (cached, 2)):
        loader = TrainLoader(source, plan(images), LIVELY, 12, threads=threads)
        assert_equal(batches(loader, 1), expected)


def test_made_elsewhere_in_the_cluster(shards, ray_cluster):
    images = ShardedImages(shards, "train")
    for rank in range(2):
        here = TrainLoader(images, plan(images), LIVELY, 12, rank, 2)
        there = RayTrainLoader(shards, images, plan(images), LIVELY, 12, rank, 2, threads=2)
        assert_equal(batches(there, 0), batches(here, 0))


def test_an_epoch_that_is_done_asks_nothing_of_the_cluster(shards, monkeypatch):
    images = ShardedImages(shards, "train")
    loader = RayTrainLoader(shards, images, plan(images), LIVELY, 12)
    monkeypatch.setitem(sys.modules, "ray.data", None)  # to import it is an error
    assert list(loader.epoch(0, loader.plan.steps)) == []
    with pytest.raises(ImportError):
        next(loader.epoch(0, loader.plan.steps - 1))


def test_continuous_labels_come_with_their_images(shards):
    images = ShardedImages(shards, "train")
    values = np.random.default_rng(0).normal(size=(len(images), 2))
    loader = TrainLoader(images, plan(images), LIVELY, 12, values_NL=values)
    made = batches(loader, 2)
    for step, (pixels, labels, got) in enumerate(made):
        rows = loader.plan.batch(2, step).index
        assert torch.equal(got, torch.from_numpy(values[rows]))
        assert len(pixels) == len(labels) == len(got) == 8


class Recorder:
    """Images whose pixels tell which image they are."""

    def __init__(self, labels):
        self.labels, self.names = labels, [str(i) for i in range(len(labels))]

    def __len__(self):
        return len(self.labels)

    def decode(self, i: int) -> np.ndarray:
        return np.full((4, 4, 3), [i % 256, i // 256, 7], dtype=np.uint8)


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_what_three_epochs_draw_is_the_plans(workers):
    """The audit of `benchmarks.loader`, small."""
    labels = np.repeat(np.arange(40), np.random.default_rng(0).integers(1, 30, 40))
    images = Recorder(labels)
    made = BalancedBatchSampler(labels, classes=8, per_class=4, seed=5)
    drawn = Counter()
    for rank in range(workers):
        loader = TrainLoader(images, made, Augmentation(), 4, rank, workers, threads=2)
        for epoch in range(3):
            for pixels, got in loader.epoch(epoch):
                ids = pixels[:, 0, 0, 0].long() + 256 * pixels[:, 1, 0, 0].long()
                assert torch.equal(got.chunk(workers)[rank], torch.from_numpy(labels)[ids])
                drawn.update((epoch, i) for i in ids.tolist())
    planned = Counter(
        (epoch, i)
        for epoch in range(3)
        for step in range(made.steps)
        for i in made.batch(epoch, step).index.tolist()
    )
    assert drawn == planned
    counts = np.bincount(labels)[labels]
    for epoch in range(3):
        missed = [i for i in np.flatnonzero(counts > 1) if not drawn[epoch, i]]
        assert len(missed) == made.left_out
        assert not any(drawn[epoch, i] for i in np.flatnonzero(counts == 1))


def test_settings_of_the_input():
    cluster = small_params().cluster
    check_input(cluster)
    assert input_threads(cluster) == 1
    assert input_threads(replace(cluster, resources_per_worker={"CPU": 6.0, "GPU": 1})) == 6
    assert input_threads(replace(cluster, input_threads=3)) == 3
    from_nodes = replace(cluster, input="ray")
    check_input(replace(from_nodes, storage="/a/folder"))
    with pytest.raises(UserError, match=r"input = ray .* URL in cluster.storage"):
        check_input(replace(from_nodes, storage="s3://bucket/rhs"))
    for wrong, said in (
        ({"input": "dali"}, r"cluster\.input is 'dali'; accepted: auto, decoded"),
        ({"input_threads": 0}, r"cluster\.input_threads is 0"),
        ({"decoded_gib": -1}, "decoded_gib is -1"),
        ({"cache_folder": None}, "cache_folder is None"),
        ({"resources_per_worker": None}, "resources_per_worker is None"),
        ({"resources_per_worker": {"CPU": "x"}}, r"resources_per_worker\.CPU is 'x'"),
    ):
        with pytest.raises(UserError, match=said):
            read_group(ClusterConfig, "cluster", asdict(cluster) | wrong)
