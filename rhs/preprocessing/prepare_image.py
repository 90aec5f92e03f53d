"""One encoded image made ready for a shard. A plain function: knows nothing of Ray or folders."""

import io
import struct
import warnings
import zlib
from contextlib import suppress
from typing import NamedTuple

from PIL import Image, UnidentifiedImageError

from rhs.data.image_formats import HEAD, content, not_read
from rhs.preprocessing.image_conversion import (
    GAP,
    SIXTEEN_BIT,
    TURNS,
    bounded_size,
    gray_levels,
    gray_or_rgb,
    shrunk,
)

# Formats that Pillow decodes by itself; e.g. EPS would start another program on the file.
# An ICO is decoded when it is opened, whatever its size, and is not among them.
FORMATS: tuple[str, ...] = (
    "JPEG",
    "PNG",
    "WEBP",
    "GIF",
    "BMP",
    "TIFF",
    "PPM",
    "JPEG2000",
    "AVIF",
    "QOI",
)
TGA_FOOTER = b"TRUEVISION-XFILE.\0"  # nothing at its beginning tells a TGA from noise
KEPT = ("JPEG", "MPO", "PNG")  # bytes stay if nothing has to change; MPO is a JPEG with previews
LOSSY = ("JPEG", "MPO", "WEBP", "JPEG2000", "AVIF", "HEIF")
DARKEST = 4096  # brightest gray of sixteen bits that is kept: of twelve, 8 bits leave 16 levels
MIN_SIDE = 2  # pixels; a line of single pixels shows nothing to learn from
MAX_PIXELS = 100_000_000  # of an image that is decoded, unless the caller says otherwise
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

with suppress(ImportError):  # whoever installs it wants HEIC to be read
    from pillow_heif import register_heif_opener

    register_heif_opener()
    FORMATS += ("HEIF",)


class BadImage(Exception):
    """The image is refused; the text is "kind" or "kind: detail"."""


class TooManyPixels(BadImage):
    """The image is larger than it may be."""


class Prepared(NamedTuple):
    """A decodable image: JPEG or PNG, mode L or RGB, upright."""

    data: bytes
    width: int
    height: int
    converted: str | None  # e.g. "RGBA -> RGB"; None: colors and format are the source's
    resized: bool
    source: str  # format that the bytes were in, by Pillow's name
    several: bool  # it is an animation, or of several pages: the first was taken


def prepare_image(
    data: bytes, short_side: int, quality: int, max_pixels: int = MAX_PIXELS
) -> Prepared:
    """Decode every pixel of an encoded image, and encode it again only if something changes.

    Changes: EXIF orientation is applied; palettes become RGB, 1-bit and 16-bit images 8-bit gray,
    transparency white paper, CMYK RGB, colors of an ICC profile sRGB; the first frame of an
    animation is taken; a shorter side above `short_side` pixels is shrunk to it (Lanczos; a JPEG is
    decoded at 1/2, 1/4 or 1/8 where that leaves twice the size, others are averaged to it), and
    so is what would have more pixels than 16 `short_side`^2. A changed image of a lossy format
    becomes a JPEG of the given quality, of a lossless one a PNG. Bytes beyond eight for each pixel
    (metadata, previews) are dropped.

    Args:
        max_pixels: an image of more is refused before it is decoded. Decoding takes up to 25 bytes
            of memory for each (WebP, JPEG 2000), 6 in the other formats.

    Raises:
        BadImage: zero size, not an image, of a format that is not read, truncated, damaged, too
            small, unsupported mode (floating-point, beyond 16 bits), too dark (several grays of 16
            bits, all below 4096).
        TooManyPixels: decompression bomb.
    """
    if not data:
        raise BadImage("zero size")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of oddities that it can decode
            with Image.open(io.BytesIO(data), formats=_formats(data)) as image:
                if image.width * image.height > max_pixels:
                    size = f"{image.width} x {image.height} pixels"
                    raise TooManyPixels(f"decompression bomb: {size}, max_pixels is {max_pixels}")
                return _prepare(image, data, short_side, quality)
    except UnidentifiedImageError:
        raise BadImage(not_read(content(data[:HEAD])) or "not an image") from None
    except Image.DecompressionBombError as error:
        raise TooManyPixels(f"decompression bomb: {error}") from None
    except DECODER_ERRORS as error:
        kind = "truncated" if _means_truncated(error) else "damaged"
        raise BadImage(f"{kind}: {error}") from None


def _formats(data: bytes) -> tuple[str, ...]:
    return ("TGA",) if data.endswith(TGA_FOOTER) else FORMATS


def _prepare(image: Image.Image, data: bytes, short_side: int, quality: int) -> Prepared:
    source = image.format or ""
    # Of an MPO the others are previews, or what the other eye saw.
    several = getattr(image, "is_animated", False) and source != "MPO"
    size = bounded_size(*image.size, short_side)
    resized = size != image.size
    kept_bytes = 8 * image.width * image.height + 2**16
    if resized:
        image.draft(None, (GAP * size[0], GAP * size[1]))  # only JPEG knows how
    image.load()
    if image.mode == "F":
        raise BadImage("unsupported mode: floating-point pixels")
    if image.mode in SIXTEEN_BIT:
        _check_range(*gray_levels(image))
    if min(size) < MIN_SIDE:
        raise BadImage(f"too small: {size[0]} x {size[1]} pixels")
    gray, profile = image.mode in ("L", "LA", "La"), image.info.get("icc_profile")
    picture, recolored = gray_or_rgb(shrunk(image, size), gray, profile)
    notes = []
    if several:
        notes.append(
            f"{source} of several pages -> first page"
            if source == "TIFF"
            else f"animated {source} -> first frame"
        )
    elif source not in KEPT:
        notes.append(f"{source} -> {'JPEG' if source in LOSSY else 'PNG'}")
    if (turn := TURNS.get(_orientation(image))) is not None:
        picture = picture.transpose(turn)
        notes.append("EXIF orientation applied")
    if picture.mode != image.mode or image.has_transparency_data:
        notes.append(f"{image.mode} -> {picture.mode}")
    if recolored:
        notes.append("color profile -> sRGB")
    if len(data) > kept_bytes and not notes and not resized:
        notes.append("metadata dropped")
    if notes or resized:
        data = _encode(picture, source in LOSSY, quality)
    return Prepared(data, *picture.size, ", ".join(notes) or None, resized, source, several)


def _check_range(least: int, most: int) -> None:
    """Refuse what the high byte of sixteen bits would not show: it would be black, white or wrap.

    Scaling to what an image happens to span would make the same gray differ between images.
    """
    if least < 0 or most > 65535:
        raise BadImage(f"unsupported mode: 32-bit pixels, {least} to {most}; 0 to 65535 are read")
    if least < most < DARKEST:
        raise BadImage(
            f"too dark: 16-bit pixels of {least} to {most}, of which 8 bits leave at most "
            f"{most // 256 + 1} of 256 levels; they have to be scaled to 65535"
        )


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
    picture.info = {}  # or the PNG gets the profile and the transparency that are applied already
    if lossy:
        picture.save(buffer, "JPEG", quality=quality)
    else:
        picture.save(buffer, "PNG")
    return buffer.getvalue()
