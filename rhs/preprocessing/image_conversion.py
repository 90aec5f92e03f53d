"""A decoded picture made small, upright, eight-bit and sRGB, in little memory beyond its own."""

import io
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

SIXTEEN_BIT = ("I", "I;16", "I;16L", "I;16B", "I;16N")
LONGEST = 16  # times the shorter side; what is longer still is bounded in pixels
GAP = 2  # Lanczos is given at least this many times the wanted width and height
STRIP = 2**21  # pixels converted at a time
PROFILE_BYTES = 2**22  # a longer color profile is ignored; printers' are half of it
SAME_COLOR = 3  # of 255 levels: what rounding makes of a profile that is sRGB by another name
COLOR_SPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # by EXIF orientation


def bounded_size(width: int, height: int, short_side: int) -> tuple[int, int]:
    """The size after shrinking: shorter side `short_side` at most, proportions kept.

    The longer side has no bound of its own, but width x height is at most that of a picture
    LONGEST times as long as `short_side`: a narrower panorama ends up with a shorter side below it.
    """
    scale = min(
        1.0,
        short_side / min(width, height),
        (LONGEST * short_side**2 / (width * height)) ** 0.5,
    )
    return round(width * scale), round(height * scale)


def shrunk(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """A loaded image in mode L, RGB, RGBA or CMYK, eight bits, and of the given size.

    Far larger ones are averaged first, over boxes that leave Lanczos GAP times `size`. That and
    the conversion go strip by strip, so that there is never a second copy of the full size.
    """
    factors = (max(1, image.width // (GAP * size[0])), max(1, image.height // (GAP * size[1])))
    small = _eight_bits(image) if factors == (1, 1) else _averaged(image, factors)
    return small if small.size == size else small.resize(size, Image.Resampling.LANCZOS)


def _averaged(image: Image.Image, factors: tuple[int, int]) -> Image.Image:
    width, height = image.size
    rows = factors[1] * max(1, STRIP // (width * factors[1]))
    parts = []
    for top in range(0, height, rows):
        strip = image.crop((0, top, width, min(top + rows, height)))
        parts.append(_eight_bits(strip).reduce(factors))
    small = Image.new(parts[0].mode, (parts[0].width, sum(part.height for part in parts)))
    top = 0
    for part in parts:
        small.paste(part, (0, top))
        top += part.height
    return small


def gray_levels(image: Image.Image) -> tuple[int, int]:
    """The least and the greatest pixel of a loaded gray image of more than eight bits."""
    rows = max(1, STRIP // image.width)
    bounds = []
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        pixels = np.asarray(strip)
        bounds += [int(pixels.min()), int(pixels.max())]
    return min(bounds), max(bounds)


def _eight_bits(image: Image.Image) -> Image.Image:
    if image.mode in SIXTEEN_BIT:
        # The high byte; Pillow's own conversion clips at 255. `prepare_image` checked the range.
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        return image.convert("LA").convert("RGBA") if image.mode == "La" else image.convert("RGBA")
    if image.mode in ("1", "L"):
        return image.convert("L")
    return image if image.mode in ("RGB", "CMYK") else image.convert("RGB")


def gray_or_rgb(
    picture: Image.Image, gray: bool, profile: bytes | None
) -> tuple[Image.Image, bool]:
    """The picture in mode L or RGB and in sRGB, on white paper where it is transparent.

    Args:
        gray: it has no colors, though the mode (RGBA) could hold some.
        profile: the ICC profile that came with it. One that is broken, or made for other colors
            than the picture's, is ignored, as viewers do.

    Returns:
        The picture, and whether its profile changed a color.
    """
    if picture.mode == "RGBA":
        paper = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(paper, picture).convert("L" if gray else "RGB")
    apply = _to_srgb(profile, picture.mode) if profile and len(profile) <= PROFILE_BYTES else None
    if apply:
        return apply(picture), True
    return (picture.convert("RGB") if picture.mode == "CMYK" else picture), False


@lru_cache(maxsize=8)
def _to_srgb(profile: bytes, mode: str) -> Callable[[Image.Image], Image.Image] | None:
    """From the profile's colors to sRGB; None where there is nothing to do, or no way."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space.strip() != COLOR_SPACES[mode]:
            return None
        target = ImageCms.createProfile("sRGB")
        transform = ImageCms.buildTransform(source, target, mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None

    def apply(picture: Image.Image) -> Image.Image:
        changed = ImageCms.applyTransform(picture, transform)
        assert changed is not None  # it is, where asked to work in place
        return changed.convert("L") if mode == "L" else changed

    samples = Image.fromarray(_samples(mode), None if mode != "CMYK" else "CMYK")
    before, after = (np.asarray(p.convert("RGB"), dtype=int) for p in (samples, apply(samples)))
    return None if np.abs(before - after).max() <= SAME_COLOR else apply


def _samples(mode: str) -> NDArray[np.uint8]:
    """Colors from all over the space, as a picture [H, W] or [H, W, channels]."""
    channels = len(Image.new(mode, (1, 1)).getbands())
    steps = np.linspace(0, 255, 256 if channels == 1 else 9).astype(np.uint8)
    grid = np.stack(np.meshgrid(*[steps] * channels), axis=-1).reshape(1, -1, channels)
    return grid[..., 0] if channels == 1 else grid
