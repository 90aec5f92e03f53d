"""What retrieval looks like: random queries with their neighbors, and the worst failures."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from PIL import Image

from rhs.metrics.retrieval_results import RetrievalResults

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


@dataclass(frozen=True)
class Retrieved:
    """A query and its nearest neighbors, nearest first."""

    query: Picture
    neighbors: list[Picture]


@dataclass(frozen=True)
class Failure:
    """A query whose nearest neighbor is of another class.

    ``gap`` is how much more similar the wrong one is than the best right one, ``rank`` the place of
    that right one among all the others (1 would be the nearest).
    """

    query: Picture
    wrong: Picture
    right: Picture
    gap: float
    rank: int


def thumbnail(
    encoded: bytes, side: int = THUMBNAIL_SIDE, photograph: str = "jpeg"
) -> tuple[str, int, int]:
    """An encoded image as (data URI, width, height), its longer side at most ``side`` pixels.

    Drawings come out smaller, and sharper, as PNG; others as ``photograph``: "jpeg", or "webp",
    half as large at 64 pixels.
    """
    with Image.open(io.BytesIO(encoded)) as image:
        image.draft(None, (2 * side, 2 * side))  # a JPEG need not be decoded at its full size
        small = image.convert("L" if image.mode in ("1", "L") else "RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    choices = []
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
    return Picture(uri, width, height, class_name, images.names[i], similarity, right)


def random_queries(
    images: Images, found: RetrievalResults, *, count: int, k: int, seed: int
) -> list[Retrieved]:
    """``count`` seeded draws among the queries that have an answer, each with its k nearest."""
    candidates = np.flatnonzero(found.answerable_Q)
    if not len(candidates):
        return []
    # Over the images' own numbers, so that the draw does not depend on who else asks.
    drawn = np.random.default_rng(seed).permutation(found.asking_Q[candidates])[:count]
    rows = np.searchsorted(found.asking_Q, drawn)
    labels_N = found.labels_N
    return [
        Retrieved(
            picture(images, query),
            [
                picture(images, i, float(similarity), bool(labels_N[i] == labels_N[query]))
                for i, similarity in zip(
                    found.indices_Qk[row, :k], found.similarities_Qk[row, :k], strict=True
                )
            ],
        )
        for query, row in zip(drawn, rows, strict=True)
    ]


def worst_failures(
    images: Images, found: RetrievalResults, *, count: int
) -> tuple[list[Failure], int]:
    """The ``count`` failures with the largest gap, largest first, and how many there are in all."""
    failing = np.flatnonzero(found.failing_Q)
    if not len(failing):
        return [], 0
    gap_F = found.similarities_Qk[failing, 0] - found.right_s_Q[failing]
    order = np.argsort(-gap_F, kind="stable")[:count]
    worst = failing[order]
    rows = [
        Failure(
            query=picture(images, found.asking_Q[row]),
            wrong=picture(
                images, found.indices_Qk[row, 0], float(found.similarities_Qk[row, 0]), False
            ),
            right=picture(images, found.right_i_Q[row], float(found.right_s_Q[row]), True),
            gap=float(gap),
            rank=int(rank),
        )
        for row, gap, rank in zip(worst, gap_F[order], found.ranks(worst), strict=True)
    ]
    return rows, len(failing)
