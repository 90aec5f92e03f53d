"""The pass over the training set between epochs."""

from dataclasses import asdict

import numpy as np
import torch
from tiny_project import method_config, small_model_config, small_params

from rhs.config.instantiate import build
from rhs.data.batch_sampler import BalancedBatchSampler
from rhs.data.loader import TrainLoader
from rhs.data.shards import ShardedImages
from rhs.data.transforms import Augmentation
from rhs.models.embedder import build_embedder
from rhs.training.refresh import refresh_statistics

CPU = torch.device("cpu")


def parts(shards, method: str, rank: int = 0, world_size: int = 1):
    images = ShardedImages(shards, "train")
    plan = BalancedBatchSampler(images.labels, 4, 2, 0)
    augmentation = Augmentation(**asdict(small_params().dataset.augment))
    embedder = build_embedder(small_model_config(), seed=1)
    objective = build({k: v for k, v in method_config(method).items() if k != "batches"})
    objective.prepare(8, embedder.dim)
    return embedder, objective, TrainLoader(images, plan, augmentation, 16, rank, world_size)


def test_class_means_are_those_of_unaugmented_images(tiny_shards):
    embedder, objective, loader = parts(tiny_shards, "rhs_npair_epoch")
    embedder.train()
    refresh_statistics(embedder, objective, loader, 0, CPU, print)
    images = loader.images
    pixels = torch.from_numpy(np.stack([images.decode(i) for i in range(len(images))]))
    x_ND = embedder.embed(pixels.permute(0, 3, 1, 2))
    for label in range(8):
        expected = x_ND[torch.from_numpy(images.labels) == label].mean(0)
        torch.testing.assert_close(objective.centers.center_CD[label], expected)


def test_shares_of_ranks_are_the_whole_once(tiny_shards):
    whole = parts(tiny_shards, "npair")[2]
    for world_size in (2, 4):
        loaders = [parts(tiny_shards, "npair", r, world_size)[2] for r in range(world_size)]
        pixels, labels = zip(
            *[b for made in loaders for b in made.evaluation_views(3)], strict=True
        )
        expected_pixels, expected_labels = zip(*whole.evaluation_views(), strict=True)
        assert torch.equal(torch.cat(pixels), torch.cat(expected_pixels))
        assert torch.equal(torch.cat(labels), torch.cat(expected_labels))


def test_it_comes_when_it_is_due_and_not_otherwise(tiny_shards):
    embedder, objective, loader = parts(tiny_shards, "iaa_multi_similarity")
    assert objective.generator.every == 4
    for epoch in range(9):
        objective.generator.variance_CD.zero_()
        refresh_statistics(embedder, objective, loader, epoch, CPU, print)
        assert bool(objective.generator.variance_CD.any()) == (epoch % 4 == 0)


def test_methods_that_ask_for_nothing_get_nothing(tiny_shards):
    embedder, objective, _ = parts(tiny_shards, "npair")
    loader = type("Loader", (), {"plan": BalancedBatchSampler})  # which cannot survey anything
    refresh_statistics(embedder, objective, loader, 0, CPU, print)
