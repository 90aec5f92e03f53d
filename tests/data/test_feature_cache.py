"""What a frozen trunk makes of images: computed once, by what it depends on."""

import numpy as np
import pytest
import torch
from tiny_project import small_model_config

from rhs.data import feature_cache
from rhs.data.batch_sampler import BalancedBatchSampler
from rhs.data.feature_cache import FeatureLoader, Features
from rhs.data.loader import evaluation_batches
from rhs.data.shards import ShardedImages
from rhs.data.transforms import Augmentation
from rhs.errors import UserError
from rhs.models.embedder import build_embedder

CPU = torch.device("cpu")


@pytest.fixture
def embedder():
    return build_embedder(small_model_config(), seed=3)


def made(monkeypatch) -> list[int]:
    """Grows by one whenever images are decoded for features."""
    calls: list[int] = []

    def counted(*more, **named):
        calls.append(1)
        return evaluation_batches(*more, **named)

    monkeypatch.setattr(feature_cache, "evaluation_batches", counted)
    return calls


def test_features_are_the_trunks_of_whole_images(tiny_shards, tmp_path, embedder):
    kept = Features(tiny_shards, "train", embedder.train(), tmp_path, CPU, threads=2)
    images = ShardedImages(tiny_shards, "train")
    whole = torch.cat(list(evaluation_batches(images, range(len(images)), 16, 8)))
    with torch.no_grad():
        expected = embedder.eval().trunk((whole.float() - embedder.mean) / embedder.std)
        np.testing.assert_allclose(kept.x_NF, expected, rtol=1e-5, atol=1e-6)
        x_bF = torch.cat(list(kept.batches([4, 0, 4], 2)))
        torch.testing.assert_close(embedder.head(x_bF), embedder(whole[[4, 0, 4]]))
    assert kept.x_NF.dtype == np.float32
    assert kept.names == images.names


def test_they_are_computed_once(tiny_shards, tmp_path, embedder, monkeypatch):
    calls = made(monkeypatch)
    one = Features(tiny_shards, "val", embedder, tmp_path, CPU)
    torch.nn.init.zeros_(embedder.head.weight)  # nothing to the trunk
    other = Features(tiny_shards, "val", embedder, tmp_path, CPU)
    assert len(calls) == 1
    np.testing.assert_array_equal(one.x_NF, other.x_NF)


def test_another_trunk_size_or_split_has_its_own(tiny_shards, tmp_path, embedder, monkeypatch):
    calls = made(monkeypatch)
    others = [
        build_embedder(small_model_config() | change, seed=3)
        for change in ({"image_size": 12}, {"mean": [0.1, 0.2, 0.3]})
    ]
    for model in [embedder, *others, build_embedder(small_model_config(), seed=4)]:
        Features(tiny_shards, "val", model, tmp_path, CPU)
    Features(tiny_shards, "test", embedder, tmp_path, CPU)
    assert len(calls) == 5


def test_a_file_that_is_short_is_made_again(tiny_shards, tmp_path, embedder):
    whole = np.array(Features(tiny_shards, "val", embedder, tmp_path, CPU).x_NF)
    (file,) = tmp_path.glob(f"*/{feature_cache.FILE}")
    np.save(file, whole[:-1])
    np.testing.assert_array_equal(Features(tiny_shards, "val", embedder, tmp_path, CPU).x_NF, whole)


def test_interrupted_while_it_computes_it_leaves_nothing(
    tiny_shards, tmp_path, embedder, monkeypatch
):
    def ends(*more, **named):
        yield next(evaluation_batches(*more, **named))
        raise KeyboardInterrupt

    monkeypatch.setattr(feature_cache, "evaluation_batches", ends)
    with pytest.raises(KeyboardInterrupt):
        Features(tiny_shards, "val", embedder, tmp_path, CPU)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_a_folder_that_cannot_be_written(tiny_shards, tmp_path, embedder):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"cluster\.cache_folder .*file cannot be written"):
        Features(tiny_shards, "val", embedder, tmp_path / "file", CPU)


def test_no_space(tiny_shards, tmp_path, embedder, monkeypatch):
    monkeypatch.setattr(
        feature_cache.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 9})
    )
    with pytest.raises(UserError, match=r"choose another cluster\.cache_folder"):
        Features(tiny_shards, "val", embedder, tmp_path, CPU)


@pytest.mark.parametrize("world_size", [1, 2])
def test_batches_are_the_plans(tiny_shards, tmp_path, embedder, world_size):
    kept = Features(tiny_shards, "train", embedder, tmp_path, CPU)
    plan = BalancedBatchSampler(kept.labels, 4, 2, seed=0)
    values_NL = np.arange(len(kept), dtype=float)[:, None]
    loaders = [
        FeatureLoader(kept, plan, Augmentation(), 16, rank, world_size, values_NL=values_NL)
        for rank in range(world_size)
    ]
    shares = [list(loader.epoch(2, start=1)) for loader in loaders]
    assert len(shares[0]) == plan.steps - 1
    for step, parts in enumerate(zip(*shares, strict=True), 1):
        rows = plan.batch(2, step).index
        np.testing.assert_array_equal(np.concatenate([x for x, *_ in parts]), kept.x_NF[rows])
        for _, labels, values in parts:
            np.testing.assert_array_equal(labels, kept.labels[rows])
            np.testing.assert_array_equal(values, values_NL[rows])


@pytest.mark.parametrize("world_size", [1, 3, 4])
def test_a_survey_sees_every_image_once(tiny_shards, tmp_path, embedder, world_size):
    kept = Features(tiny_shards, "train", embedder, tmp_path, CPU)
    plan = BalancedBatchSampler(kept.labels, 4, 3, seed=0)
    seen = [
        batch
        for rank in range(world_size)
        for batch in FeatureLoader(
            kept, plan, Augmentation(), 16, rank, world_size
        ).evaluation_views(5)
    ]
    np.testing.assert_array_equal(np.concatenate([x for x, _ in seen]), kept.x_NF)
    np.testing.assert_array_equal(np.concatenate([y for _, y in seen]), kept.labels)
