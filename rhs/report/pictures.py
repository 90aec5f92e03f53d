"""Images of a split as a page shows them."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from rhs.data.thumbnail import shrink

THUMBNAIL_SIDE = 96
_OPTIONS: dict[str, dict[str, Any]] = {
    "png": {"optimize": True},
    "jpeg": {"quality": 82},
    "webp": {"quality": 70, "method": 4},
}


class Images(Protocol):
    """One split's images, as ``rhs.data.shards.ShardedImages`` gives them."""

    labels: np.ndarray
    class_names: list[str]
    names: list[str]
    queries: np.ndarray | None  # bool [N]: a query, or of the gallery; None: every image is both

    def bytes(self, i: int) -> bytes: ...


@dataclass(frozen=True)
class Picture:
    """One image of a gallery. ``right`` is None for a query; ``similarity`` is the cosine to it."""

    uri: str
    width: int
    height: int
    class_name: str
    name: str
    similarity: float | None = None
    right: bool | None = None


def thumbnail(
    encoded: bytes, side: int = THUMBNAIL_SIDE, photograph: str = "jpeg"
) -> tuple[str, int, int]:
    """An encoded image as (data URI, width, height), its longer side at most ``side`` pixels.

    Drawings come out smaller, and sharper, as PNG; others as ``photograph``: "jpeg", or "webp",
    half as large at 64 pixels.
    """
    small, choices = shrink(encoded, side), []
    # More than 256 colors are no drawing: a PNG of them is never the smaller one.
    for kind in ("png", photograph) if small.getcolors() else (photograph,):
        buffer = io.BytesIO()
        small.save(buffer, kind, **_OPTIONS[kind])
        choices.append((len(buffer.getvalue()), kind, buffer.getvalue()))
    _, kind, data = min(choices)
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}", *small.size


def picture(
    images: Images, i: int, similarity: float | None = None, right: bool | None = None
) -> Picture:
    """Image i of a split, ready for a page."""
    uri, width, height = thumbnail(images.bytes(int(i)))
    class_name = images.class_names[int(images.labels[i])]
    name = images.names[i]
    return Picture(uri, width, height, class_name, name, similarity=similarity, right=right)
