"""Models: built from a configuration, saved and loaded without running anything of it."""

import importlib.util
import json
from dataclasses import replace

import pytest
import torch
from tiny_project import composed, small_model_config, small_params
from torch import nn

from rhs.errors import UserError
from rhs.models import trunks
from rhs.models.convnet import ConvNet
from rhs.models.embedder import (
    Embedder,
    build_embedder,
    check_model,
    load_config,
    load_embedder,
    save_embedder,
)

HAVE_TIMM = importlib.util.find_spec("timm") is not None
needs_timm = pytest.mark.skipif(not HAVE_TIMM, reason="timm is not installed")


def pixels(n: int = 4, side: int = 16) -> torch.Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n, 3, side, side), generator=random, dtype=torch.uint8)


def saved(folder, **changes):
    config = small_model_config() | changes
    embedder = build_embedder(small_model_config(), seed=5)
    folder.mkdir()
    save_embedder(folder, embedder, config)
    return embedder


def test_a_saved_model_embeds_the_same(tmp_path):
    embedder = saved(tmp_path / "model", anything="else")
    loaded = load_embedder(tmp_path / "model")
    assert not loaded.training
    torch.testing.assert_close(
        loaded.embed(pixels()), embedder.eval().embed(pixels()), rtol=0, atol=0
    )
    assert load_config(tmp_path / "model")["anything"] == "else"


def test_embeddings_are_unit_vectors_of_the_configured_size():
    embedder = build_embedder(small_model_config())
    x = embedder.eval().embed(pixels())
    assert x.shape == (4, 16)
    assert x.dtype == torch.float32
    assert not x.requires_grad
    torch.testing.assert_close(x.norm(dim=1), torch.ones(4))
    raw = embedder(pixels())
    assert raw.requires_grad
    torch.testing.assert_close(torch.nn.functional.normalize(raw).detach(), x)


def test_pixels_are_brought_to_mean_and_deviation():
    class Seen(nn.Module):
        num_features = 3

        def forward(self, x):
            self.x = x
            return x.mean((2, 3))

    trunk = Seen()
    mean, std = [0.2, 0.4, 0.6], [0.1, 0.2, 0.3]
    Embedder(trunk, 2, 16, mean, std)(pixels())
    expected = (pixels() / 255.0 - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[
        :, None, None
    ]
    torch.testing.assert_close(trunk.x, expected)


def test_an_embedding_depends_on_its_own_image_alone():
    for embedder in (build_embedder(small_model_config()).train(),):
        together = embedder(pixels())
        alone = torch.cat([embedder(pixels()[i : i + 1]) for i in range(4)])
        torch.testing.assert_close(together, alone)


def test_the_seed_decides_the_fresh_weights_and_leaves_the_global_state_alone():
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    models = [build_embedder(small_model_config(), seed) for seed in (1, 1, 2)]
    assert torch.equal(torch.rand(3), expected)
    weights = [model.head.weight for model in models]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


class Normalized(nn.Module):
    """A trunk with batch normalization and dropout."""

    num_features = 4

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3)
        self.norm = nn.Sequential(nn.BatchNorm2d(4))
        self.dropout = nn.Dropout(0.5)

    def forward(self, x):
        return self.dropout(self.norm(self.convolution(x))).mean((2, 3))


def test_batch_normalization_stays_in_evaluation_mode():
    trunk = Normalized()
    embedder = Embedder(trunk, 2, 16, [0.5] * 3, [0.5] * 3)
    before = {k: v.clone() for k, v in embedder.state_dict().items()}
    for around in (embedder, nn.Sequential(embedder)):  # DistributedDataParallel holds it likewise
        around.train()
        assert embedder.training
        assert trunk.dropout.training
        assert not trunk.norm[0].training
        around(pixels())
    assert all(torch.equal(v, before[k]) for k, v in embedder.state_dict().items())
    embedder.eval()
    assert not trunk.dropout.training


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.exec",
        "torch.load",
        "rhsx.models.convnet.ConvNet",
        "rhs.models.embedder.load_file",  # imported there, but not of this project
        "rhs.models.trunks.Path",
        "rhs.tracking.tracker.subprocess.run",
        "rhs.run.hashlib",
        "rhs.nowhere.Nothing",
        "rhs.models.convnet.Nothing",
        "",
        None,
    ],
)
def test_a_configuration_that_came_with_a_model_runs_nothing_else(tmp_path, target):
    saved(tmp_path / "model", trunk={"_target_": target})
    with pytest.raises(UserError, match="_target_"):
        load_embedder(tmp_path / "model")


@pytest.mark.parametrize("deep", ["trunk", "mean"])
def test_nor_deep_inside(tmp_path, deep):
    victim = tmp_path / "victim"
    attack = {"_target_": "rhs.training.run_log.write", "journal": str(victim), "line": "x"}
    good = small_model_config()["trunk"]
    saved(tmp_path / "model", **{deep: good | {"widths": [attack]} if deep == "trunk" else attack})
    with pytest.raises(UserError, match=r"_target_.*rhs\.models\."):
        load_embedder(tmp_path / "model")
    assert not victim.exists()


def test_a_trunk_that_is_no_network():
    with pytest.raises(UserError, match=r"model\.trunk is 'frozen'.*set train\.trunk=frozen"):
        check_model(replace(small_params().model, trunk="frozen"))


@pytest.mark.parametrize("missing", ["model.safetensors", "config.json"])
def test_a_folder_without_a_model(tmp_path, missing):
    saved(tmp_path / "model")
    (tmp_path / "model" / missing).unlink()
    with pytest.raises(UserError, match="holds no model"):
        load_embedder(tmp_path / "model")
    with pytest.raises(UserError, match="holds no model"):
        load_embedder(tmp_path / "elsewhere")


def test_convnet_halves_the_resolution_with_each_width():
    trunk = ConvNet([8, 16, 24])
    assert trunk.num_features == 24
    assert trunk.stages(torch.zeros(1, 3, 48, 48)).shape == (1, 24, 6, 6)
    assert trunk(torch.zeros(2, 3, 48, 48)).shape == (2, 24)


@pytest.mark.parametrize("widths", [[12], [8, 30], []])
def test_widths_that_do_not_group(widths):
    with pytest.raises(UserError, match=r"model\.trunk\.widths is .*multiples of 8"):
        ConvNet(widths)


@needs_timm
def test_a_saved_pretrained_model_needs_no_download(tmp_path, monkeypatch):
    config = {
        "trunk": {
            "_target_": "rhs.models.trunks.timm_trunk",
            "name": "resnet10t",
            "pretrained": False,
        },
        "dim": 8,
        "image_size": 32,
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
    }
    embedder = build_embedder(config)
    config["trunk"]["pretrained"] = True
    tmp_path.joinpath("model").mkdir()
    save_embedder(tmp_path / "model", embedder, config)
    asked = []
    real = trunks.timm_trunk
    monkeypatch.setattr(
        trunks, "timm_trunk", lambda name, pretrained: asked.append(pretrained) or real(name, False)
    )
    trunks.timm_trunk.__module__ = "rhs.models.trunks"
    loaded = load_embedder(tmp_path / "model")
    assert asked == [False]
    torch.testing.assert_close(
        loaded.embed(pixels(side=32)), embedder.eval().embed(pixels(side=32)), rtol=0, atol=0
    )


def test_the_configuration_is_text(tmp_path):
    saved(tmp_path / "model")
    json.loads((tmp_path / "model" / "config.json").read_text())


def checked(*choices: str) -> None:

    check_model(composed(*choices).model)


def test_a_name_of_timm_for_another_model_is_refused():
    with pytest.raises(UserError, match=r"model\.name is 'resnet50'.*ConvNet.*model=timm"):
        checked("model.name=resnet50")


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "vit_tiny_patch16_224", "resnet18"])
def test_trunks_of_many_kinds_fit_their_head(name):
    checked("model=timm", f"model.name={name}", "model.trunk.pretrained=false")


def test_an_image_size_that_the_trunk_refuses():
    with pytest.raises(UserError, match=r"vit_tiny_patch16_224 .*model\.image_size = 160"):
        checked(
            "model=timm",
            "model.name=vit_tiny_patch16_224",
            "model.image_size=160",
            "model.trunk.pretrained=false",
        )
