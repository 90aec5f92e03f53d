"""A small convolutional trunk for small images, trained from scratch."""

from itertools import pairwise

import torch
from torch import nn

from rhs.errors import UserError

GROUPS = 8  # of the normalization
WIDEST = 8192  # gigabytes of weights in one convolution


class ConvNet(nn.Module):
    """Strided stem, then per width a strided convolution and a residual one; global mean pooling.

    Group normalization, not batch normalization: an image's embedding does not depend on which
    other images are in its worker's share of the batch.

    Args:
        widths: channels of the stages, multiples of 8; each halves the resolution. `num_features`
            is the last.

    Raises:
        UserError: no widths, or one that is not a multiple of 8.
    """

    def __init__(self, widths: list[int]):
        super().__init__()
        if not widths or any(not 1 <= width <= WIDEST or width % GROUPS for width in widths):
            raise UserError(
                f"model.trunk.widths is {widths}; give some multiples of {GROUPS}, up to {WIDEST}."
            )
        self.num_features = widths[-1]
        stages: list[nn.Module] = [_convolution(3, widths[0], kernel=5)]
        for narrow, wide in pairwise(widths):
            stages += [_convolution(narrow, wide, kernel=3), Residual(wide)]
        self.stages = nn.Sequential(*stages)

    def forward(self, image_B3HW: torch.Tensor) -> torch.Tensor:
        """Features [B, num_features] of normalized images [B, 3, H, W]."""
        return self.stages(image_B3HW).mean((2, 3))


class Residual(nn.Module):
    """x + conv(x), same width and resolution."""

    def __init__(self, width: int):
        super().__init__()
        self.convolution = _convolution(width, width, kernel=3, stride=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.convolution(x)


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 2) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False),
        nn.GroupNorm(GROUPS, outputs),
        nn.ReLU(inplace=True),
    )
