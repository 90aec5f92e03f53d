"""A run with a frozen trunk: the same on any number of workers, resumed, and a whole model."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from injector import Injury
from rank_jobs import final_tensors, train_until
from resume_checks import assert_bit_equal, numbers
from tiny_project import changed, small_params

from rhs.metrics.retrieval import score
from rhs.models.embedder import build_embedder, load_embedder
from rhs.run import Run
from rhs.storage.store import open_store
from rhs.training.checkpoint import load
from rhs.training.export import export
from rhs.training.model_selection import embed_split, load_selected

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def params(tmp_path_factory):
    """Makes the parameters of a run whose features lie in one folder."""
    cache = tmp_path_factory.mktemp("features")

    def of(*more: str):
        return small_params(
            "train.trunk=frozen",
            "cluster.checkpoint.every_steps=2",
            f"cluster.cache_folder={cache}",
            *more,
        )

    return of


def trained(gloo_pool, params, shards, checkpoints, world_size=1, injury=None):
    """The last checkpoint's tensors and state, and what rank 0 said."""
    config = params
    answers = gloo_pool.run(train_until, world_size, config, shards, checkpoints, injury)
    return *final_tensors(checkpoints), answers[0][1]


# Class statistics, signatures, surveys between epochs, batches that the model composes.
@pytest.mark.parametrize("method", ["rhs_npair", "iaa_multi_similarity", "schem", "eps_triplet"])
def test_one_two_and_four_workers_draw_the_same_curve(
    gloo_pool, tiny_shards, tmp_path, params, method
):
    states = {}
    for size in (1, 2, 4):
        cache = f"cluster.cache_folder={tmp_path}/features{size}"  # made by all ranks at once
        job = params(f"method={method}", cache), tiny_shards, tmp_path / str(size), size
        tensors, states[size], lines = trained(gloo_pool, *job)
        assert len(list(tmp_path.glob(f"features{size}/*/features.npy"))) == 2
        assert {name for name in tensors if name.startswith("model.")} == {
            "model.head.weight",
            "model.head.bias",
        }
        assert "the trunk is frozen: features are computed once, without dataset.augment" in lines
    for size in (2, 4):
        for one, other in zip(numbers(states[1]), numbers(states[size]), strict=True):
            assert other == pytest.approx(one, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("method", ["rhs_npair", "schem"])
def test_stopped_and_run_again_it_ends_bit_equal(gloo_pool, tiny_shards, tmp_path, params, method):
    config = params(f"method={method}")
    straight, state, _ = trained(gloo_pool, config, tiny_shards, tmp_path / "straight", 2)
    job = config, tiny_shards, tmp_path / "stopped"
    gloo_pool.run(train_until, 2, *job, Injury("step", 8))
    tensors, again, lines = trained(gloo_pool, config, *job[1:], 2)
    assert "continuing after step 3/5 of epoch 2" in lines
    assert_bit_equal(straight, tensors)
    assert numbers(state) == numbers(again)


def test_the_model_is_whole_and_embeds_as_the_features_do(gloo_pool, tiny_shards, tmp_path, params):
    config = params("train.select=best", "seed=5")
    run = Run("frozen", tmp_path / "run")
    _, state, _ = trained(gloo_pool, config, tiny_shards, tmp_path / "run" / "checkpoints")
    export(config, run, tmp_path / "model")
    model = load_embedder(tmp_path / "model")
    fresh = build_embedder(asdict(config.model), seed=5)
    torch.testing.assert_close(model.trunk.state_dict(), fresh.trunk.state_dict(), rtol=0, atol=0)
    assert not torch.equal(model.head.weight, fresh.head.weight)
    best = max(state["history"], key=lambda row: row["val_recall@1"])
    said = json.loads((tmp_path / "model" / "config.json").read_text())["checkpoint"]
    assert said == {"select": "best", "epoch": best["epoch"], "step": best["step"]}

    whole = changed(config, train={"trunk": "trained"})
    by_images, labels = embed_split(whole, tiny_shards, "val", model, CPU)
    by_features, _ = embed_split(config, tiny_shards, "val", model, CPU)
    np.testing.assert_allclose(by_images, by_features, rtol=1e-4, atol=1e-5)
    scores = score(by_features, labels, [1], draws=0).values
    assert (scores["recall@1"], scores["map@r"]) == (best["val_recall@1"], best["val_map@r"])


@pytest.mark.parametrize("which", ["last", "best", "best_map@r"])
def test_a_checkpoint_is_selected(gloo_pool, tiny_shards, tmp_path, params, which):
    config = params("train.lr=0.3")  # too much: the best is not the last
    _, state, _ = trained(gloo_pool, config, tiny_shards, tmp_path)
    chosen = load_selected(config, open_store(str(tmp_path)), which)
    assert chosen.history == state["history"]
    assert chosen.step == state["history"][chosen.epoch - 1]["step"]
    x_ND, labels = embed_split(config, tiny_shards, "val", chosen.embedder, CPU)
    row = state["history"][chosen.epoch - 1]
    values = score(x_ND, labels, [1], draws=0).values
    assert (values["recall@1"], values["map@r"]) == (row["val_recall@1"], row["val_map@r"])
    column = {"last": "epoch", "best": "val_recall@1", "best_map@r": "val_map@r"}[which]
    assert row[column] == max(each[column] for each in state["history"])
    saved = load(open_store(str(tmp_path)), chosen.step)[0]
    torch.testing.assert_close(chosen.embedder.head.weight, saved["model.head.weight"])
