"""A small picture of an encoded image."""

import io
from typing import Any

from PIL import Image

QUALITY = 82  # of a JPEG


def thumbnail(encoded: bytes, side: int) -> bytes:
    """An encoded image made small: JPEG or PNG, its longer side at most `side` pixels.

    What is that small stays as it is. Drawings, which come as PNG, come out smaller and sharper as
    PNG, photographs as JPEG: of a PNG the smaller of the two is taken.

    Args:
        encoded: a JPEG or PNG of a shard, gray or RGB.
    """
    with Image.open(io.BytesIO(encoded)) as image:
        if max(image.size) <= side:
            return encoded
        drawn = image.format == "PNG"
    small = shrink(encoded, side)
    choices = [_encode(small, "JPEG", quality=QUALITY)]
    if drawn:
        choices.append(_encode(small, "PNG"))
    return min(choices, key=len)


def shrink(encoded: bytes, side: int) -> Image.Image:
    """An encoded image decoded, gray or RGB, its longer side at most `side` pixels."""
    with Image.open(io.BytesIO(encoded)) as image:
        image.draft(None, (2 * side, 2 * side))  # a JPEG need not be decoded in full
        small = image.convert("L" if image.mode in ("1", "L") else "RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    return small


def _encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
