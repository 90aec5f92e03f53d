"""From a decoded image to the pixels a model takes; every choice is a function of the seed."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from rhs.errors import UserError


@dataclass(frozen=True)
class Augmentation:
    """A random resized crop and a flip.

    Args:
        scale: least and greatest share of the image's area in the crop.
        ratio: least and greatest width / height of the crop, relative to the image's.
        flip: mirror left to right with probability one half.

    Raises:
        UserError: bounds that make no crop.
    """

    scale: tuple[float, float] = (1.0, 1.0)
    ratio: tuple[float, float] = (1.0, 1.0)
    flip: bool = False

    def __post_init__(self):
        for name, bounds, most in (("scale", self.scale, 1.0), ("ratio", self.ratio, np.inf)):
            if len(bounds) != 2 or not 0 < bounds[0] <= bounds[1] <= most:
                raise UserError(
                    f"dataset.augment.{name} is {list(bounds)}; give a least and a greatest value "
                    f"above 0{' and up to 1' if name == 'scale' else ''}."
                )

    def __call__(self, image_HW3: np.ndarray, size: int, random: np.random.Generator) -> np.ndarray:
        """One augmented view, uint8 [size, size, 3]."""
        height, width = image_HW3.shape[:2]
        area = random.uniform(*self.scale)
        aspect = np.exp(random.uniform(*np.log(self.ratio)))
        crop_w = width * min(1.0, np.sqrt(area * aspect))
        crop_h = height * min(1.0, np.sqrt(area / aspect))
        left = random.uniform(0, width - crop_w)
        top = random.uniform(0, height - crop_h)
        view = _resize(image_HW3, size, (left, top, left + crop_w, top + crop_h))
        return view[:, ::-1] if self.flip and random.random() < 0.5 else view


def view(image_HW3: np.ndarray, size: int) -> np.ndarray:
    """The evaluation view, uint8 [size, size, 3]: the whole image, its aspect not kept."""
    height, width = image_HW3.shape[:2]
    return _resize(image_HW3, size, (0, 0, width, height))


def _resize(image_HW3: np.ndarray, size: int, box: tuple[float, float, float, float]) -> np.ndarray:
    resized = Image.fromarray(image_HW3).resize((size, size), Image.Resampling.BILINEAR, box=box)
    return np.asarray(resized)
