"""conf/: its files compose whatever the others are, and each makes what it describes."""

import itertools
import math
import subprocess
from dataclasses import asdict

import pytest
import torch
from omegaconf import OmegaConf
from random_batches import CLASSES, DIM, embeddings, value_and_gradient
from tiny_project import ROOT, composed, prepared

from rhs.data.transforms import Augmentation
from rhs.methods.check_method import check_method
from rhs.models.embedder import build_embedder

GROUPS = ("method", "dataset", "model", "train", "cluster")


def files(group: str) -> list[str]:
    return sorted(path.stem for path in (ROOT / "conf" / group).glob("*.yaml"))


def combinations() -> list[tuple[str, ...]]:
    """Every method and data set once at least, with combinations of the others' files in turn."""
    methods, datasets = files("method"), files("dataset")
    others = list(itertools.product(*(files(group) for group in GROUPS[2:])))
    count = max(len(methods), len(datasets), len(others))
    return [
        (methods[i % len(methods)], datasets[i % len(datasets)], *others[i % len(others)])
        for i in range(count)
    ]


def test_files_compose_whatever_the_others_are():
    """Each is found unchanged in every combination."""
    from hydra import compose, initialize_config_dir

    alone = {}
    with initialize_config_dir(str(ROOT / "conf"), version_base=None):
        for combination in combinations():
            overrides = [f"{g}={f}" for g, f in zip(GROUPS, combination, strict=True)]
            params = compose("config", overrides=overrides)
            OmegaConf.resolve(params)
            params = OmegaConf.to_container(params)
            for group, file in zip(GROUPS, combination, strict=True):
                first = alone.setdefault((group, file), params[group])
                assert params[group] == first, combination
    assert set(alone) == {(group, file) for group in GROUPS for file in files(group)}


@pytest.mark.parametrize("name", files("method"))
def test_every_method_computes_a_finite_loss(name):
    config = composed(f"method={name}").method
    assert config["name"] == name
    check_method(config, values_CL=torch.arange(4.0)[:, None])
    objective = prepared(name, CLASSES, DIM)
    loss, gradient, _ = value_and_gradient(objective, *embeddings(per_class=3))
    assert 0 < loss < math.inf
    assert torch.isfinite(gradient).all()
    assert gradient.abs().max() > 0


@pytest.mark.parametrize("name", files("model"))
def test_every_model_makes_an_embedder(name):
    config = asdict(composed(f"model={name}").model)
    assert config["name"]
    if "pretrained" in config["trunk"]:
        config["trunk"]["pretrained"] = False
    embedder = build_embedder(config)
    assert embedder.head.out_features == config["dim"] == embedder.dim
    assert embedder.image_size == config["image_size"]


@pytest.mark.parametrize("name", files("train"))
def test_every_training_is_accepted(name):
    train = composed(f"train={name}").train
    assert train.epochs >= 1
    assert 0 <= train.warmup_steps(1000) < 1000


@pytest.mark.parametrize("name", files("cluster"))
@pytest.mark.parametrize("training", files("train"))
def test_every_batch_divides_among_the_workers(name, training):
    params = composed(f"cluster={name}", f"train={training}")
    assert params.train.classes * params.train.per_class % params.cluster.num_workers == 0


@pytest.mark.parametrize("name", files("dataset"))
def test_every_dataset_says_how_to_fetch_and_augment(name):
    dataset = composed(f"dataset={name}").dataset
    assert dataset.name == name
    assert dataset.fetch["_target_"].startswith("rhs.datasets.")
    Augmentation(**asdict(dataset.augment))
    module, _, function = dataset.fetch["_target_"].rpartition(".")
    assert callable(getattr(__import__(module, fromlist=[function]), function))


@pytest.mark.parametrize("name", files("experiment"))
def test_every_experiment_composes(name):
    assert composed(f"experiment={name}") != composed()


@pytest.mark.parametrize("name", files("tracking"))
def test_every_tracking_composes(name):
    tracking = composed(f"tracking={name}").tracking
    assert tracking.enabled == (name != "none")


def test_params_are_the_composed_defaults():
    """What is committed is the default; `dvc exp run -S` composes the file anew from conf/."""
    told = subprocess.run(
        ["git", "show", "HEAD:params.yaml"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert OmegaConf.to_container(OmegaConf.create(told.stdout)) == asdict(composed())
