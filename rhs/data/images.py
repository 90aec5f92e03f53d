"""One encoded image made ready for a shard. A plain function: knows nothing of Ray or folders."""

import io
import struct
import warnings
import zlib
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

# Formats that Pillow decodes by itself; e.g. EPS would start another program on the file.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000")
KEPT = ("JPEG", "MPO", "PNG")  # bytes stay if nothing has to change; MPO is a JPEG with previews
LOSSY = ("JPEG", "MPO", "WEBP", "JPEG2000")
SIXTEEN_BIT = ("I", "I;16", "I;16L", "I;16B", "I;16N")
MIN_SIDE = 2  # pixels; a line of single pixels shows nothing to learn from
ORIENTATION = 0x0112  # EXIF tag

# What a decoder that is given garbage may raise; running out of memory is not the image's fault.
DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    LookupError,
    TypeError,
    ArithmeticError,
    AttributeError,
    RuntimeError,
    EOFError,
    struct.error,
    zlib.error,
)


class BadImage(Exception):
    """The image is refused; the text is "kind" or "kind: detail"."""


class Prepared(NamedTuple):
    """A decodable image: JPEG or PNG, mode L or RGB, upright."""

    data: bytes
    width: int
    height: int
    converted: str | None  # e.g. "RGBA -> RGB"; None: colors and format are the source's
    resized: bool


def prepare_image(data: bytes, short_side: int, quality: int) -> Prepared:
    """Decode every pixel of an encoded image, and encode it again only if something changes.

    Changes: EXIF orientation is applied; palettes become RGB, 1-bit and 16-bit images 8-bit gray,
    transparency white paper, CMYK RGB; the first frame of an animation is taken; a shorter side
    above `short_side` pixels is shrunk to it (Lanczos). A changed image of a lossy format becomes
    a JPEG of the given quality, of a lossless one a PNG.

    Raises:
        BadImage: zero size, not an image, truncated, damaged, too small, decompression bomb,
            unsupported mode.
    """
    if not data:
        raise BadImage("zero size")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of oddities that it can decode
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                image.load()
                return _prepare(image, data, short_side, quality)
    except UnidentifiedImageError:
        raise BadImage("not an image") from None
    except Image.DecompressionBombError as error:
        raise BadImage(f"decompression bomb: {error}") from None
    except DECODER_ERRORS as error:
        kind = "truncated" if _means_truncated(error) else "damaged"
        raise BadImage(f"{kind}: {error}") from None


def _prepare(image: Image.Image, data: bytes, short_side: int, quality: int) -> Prepared:
    source = image.format or ""
    notes = []
    if getattr(image, "is_animated", False) and source != "MPO":
        notes.append(f"animated {source} -> first frame")
    elif source not in KEPT:
        notes.append(f"{source} -> {'JPEG' if source in LOSSY else 'PNG'}")
    upright = image
    if _orientation(image) > 1:
        upright = ImageOps.exif_transpose(image)
        notes.append("EXIF orientation applied")
    picture = to_gray_or_rgb(upright)
    if picture.mode != image.mode or image.has_transparency_data:
        notes.append(f"{image.mode} -> {picture.mode}")
    resized = min(picture.size) > short_side
    if resized:
        scale = short_side / min(picture.size)
        size = (round(picture.width * scale), round(picture.height * scale))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    if min(picture.size) < MIN_SIDE:
        raise BadImage(f"too small: {picture.width} x {picture.height} pixels")
    if notes or resized:
        data = _encode(picture, source in LOSSY, quality)
    return Prepared(data, *picture.size, ", ".join(notes) or None, resized)


def decode(data: bytes) -> NDArray[np.uint8]:
    """An encoded image of a shard as RGB, uint8 [H, W, 3]; a gray one has three equal channels."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def to_gray_or_rgb(image: Image.Image) -> Image.Image:
    """The image in mode L or RGB, 8 bits, on white paper where it is transparent.

    Raises:
        BadImage: a mode with no agreed way to eight bits (floating point).
    """
    if image.mode == "F":
        raise BadImage("unsupported mode: floating-point pixels")
    if image.mode in SIXTEEN_BIT:
        pixels = np.asarray(image).astype(np.int64)  # Pillow's own conversion clips at 255
        return Image.fromarray(np.clip(pixels >> 8, 0, 255).astype(np.uint8))
    if image.has_transparency_data:
        gray = image.mode in ("L", "LA", "La")
        layered = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(paper, layered).convert("L" if gray else "RGB")
    if image.mode in ("1", "L"):
        return image.convert("L")
    return image.convert("RGB")


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except DECODER_ERRORS:  # broken EXIF says nothing about how to turn a picture that decodes
        return 1


def _means_truncated(error: Exception) -> bool:
    text = str(error).lower()
    return isinstance(error, EOFError) or any(w in text for w in ("truncated", "incomplete", "eof"))


def _encode(picture: Image.Image, lossy: bool, quality: int) -> bytes:
    buffer = io.BytesIO()
    if lossy:
        picture.save(buffer, "JPEG", quality=quality)
    else:
        picture.save(buffer, "PNG")
    return buffer.getvalue()
