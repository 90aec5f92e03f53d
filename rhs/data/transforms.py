"""From a decoded image to the pixels a model takes; every choice is a function of the seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from rhs.config.value_checks import MOST_JITTER
from rhs.errors import UserError, check_number

# Rows: luma, and two differences of color, of red, green and blue (the YIQ space of NTSC). A turn
# of the last two is a change of hue that leaves the luma as it is.
YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])


@dataclass(frozen=True)
class Augmentation:
    """A random resized crop, a flip and, if asked for, a change of colors.

    Args:
        scale: least and greatest share of the image's area in the crop.
        ratio: least and greatest width / height of the crop, relative to the image's.
        flip: mirror left to right with probability one half.
        jitter: any of `brightness`, `contrast`, `saturation` (v: a factor drawn between 1 - v and
            1 + v) and `hue` (v: an angle drawn between -v and v turns). None: colors stay.

    Raises:
        UserError: bounds that make no crop, an unknown or too large jitter.
    """

    scale: tuple[float, float] = (1.0, 1.0)
    ratio: tuple[float, float] = (1.0, 1.0)
    flip: bool = False
    jitter: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        for name, bounds, most in (("scale", self.scale, 1.0), ("ratio", self.ratio, 1e6)):
            pair = isinstance(bounds, Sequence) and len(bounds) == 2
            right = pair and all(isinstance(bound, (int, float)) for bound in bounds)
            if not right or not 0 < bounds[0] <= bounds[1] <= most:
                raise UserError(
                    f"dataset.augment.{name} is {bounds!r}; give a least and a greatest value "
                    f"above 0{' and up to 1' if name == 'scale' else ''}."
                )
        if not isinstance(self.flip, bool):
            raise UserError(f"dataset.augment.flip is {self.flip!r}; accepted: true, false.")
        if self.jitter is not None and not isinstance(self.jitter, Mapping):
            raise UserError(
                f"dataset.augment.jitter is {self.jitter!r}; accepted: null, or amounts of "
                f"{', '.join(MOST_JITTER)}."
            )
        for name, value in (self.jitter or {}).items():
            if name not in MOST_JITTER:
                raise UserError(
                    f"dataset.augment.jitter has {name!r}; accepted: {', '.join(MOST_JITTER)}."
                )
            check_number(f"dataset.augment.jitter.{name}", value, least=0, most=MOST_JITTER[name])

    def __call__(self, image_HWC: np.ndarray, size: int, random: np.random.Generator) -> np.ndarray:
        """One augmented view, uint8 [size, size, 3]."""
        height, width = image_HWC.shape[:2]
        area = random.uniform(*self.scale)
        aspect = np.exp(random.uniform(*np.log(self.ratio)))
        # Whole pixels, so that a crop is a slice and nothing is copied.
        crop_w = max(1, round(width * min(1.0, np.sqrt(area * aspect))))
        crop_h = max(1, round(height * min(1.0, np.sqrt(area / aspect))))
        left = int(random.integers(width - crop_w + 1))
        top = int(random.integers(height - crop_h + 1))
        seen = view(image_HWC[top : top + crop_h, left : left + crop_w], size)
        if self.flip and random.random() < 0.5:
            seen = seen[:, ::-1]
        return jittered(seen, self.jitter, random) if self.jitter else seen


def view(image_HWC: np.ndarray, size: int) -> np.ndarray:
    """The evaluation view, uint8 [size, size, 3]: the whole image, its aspect not kept.

    Bilinear, with antialiasing where it shrinks. A gray image [H, W, 1] becomes three equal
    channels.
    """
    if image_HWC.shape[:2] != (size, size):
        # torch's resampling of uint8 takes a third of Pillow's time.
        image_1CHW = torch.from_numpy(image_HWC).permute(2, 0, 1)[None]
        resized_1CSS = F.interpolate(image_1CHW, (size, size), mode="bilinear", antialias=True)
        image_HWC = resized_1CSS[0].permute(1, 2, 0).numpy()
    return image_HWC if image_HWC.shape[2] == 3 else np.repeat(image_HWC, 3, axis=2)


def jittered(
    image_HW3: np.ndarray, amounts: Mapping[str, float], random: np.random.Generator
) -> np.ndarray:
    """The image in other colors: brightness, then contrast, saturation and hue, clipped at the end.

    Contrast is about the mean luma, saturation about each pixel's. All four are linear, so they are
    one matrix and an offset.
    """
    drawn = {name: random.uniform(-1, 1) * amounts.get(name, 0.0) for name in MOST_JITTER}
    luma = YIQ[0]
    gray = np.outer(np.ones(3), luma)
    matrix = (1 + drawn["brightness"]) * np.eye(3)
    mean = (1 + drawn["brightness"]) * float(image_HW3.mean(axis=(0, 1), dtype=np.float64) @ luma)
    matrix = (1 + drawn["contrast"]) * matrix
    offset = -drawn["contrast"] * mean
    matrix = (gray + (1 + drawn["saturation"]) * (np.eye(3) - gray)) @ matrix
    angle = 2 * np.pi * drawn["hue"]
    turn = np.eye(3)
    turn[1:, 1:] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    matrix = (np.linalg.inv(YIQ) @ turn @ YIQ) @ matrix  # a gray offset has no hue to turn
    red, green, blue = (image_HW3[..., c].astype(np.float32) for c in range(3))
    mixed = [
        np.float32(r) * red + np.float32(g) * green + np.float32(b) * blue + np.float32(offset)
        for r, g, b in matrix
    ]
    return np.rint(np.clip(np.stack(mixed, axis=-1), 0, 255)).astype(np.uint8)
