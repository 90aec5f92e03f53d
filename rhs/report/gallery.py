"""What retrieval looks like: random queries with their neighbors, and the worst failures."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import Image

from rhs.retrieval.neighbors import TIE, neighbors, unit_rows

THUMBNAIL_SIDE = 96
_JPEG_QUALITY = 82


class Images(Protocol):
    """One split's images, as ``rhs.data.shards.ShardedImages`` gives them."""

    labels: np.ndarray
    class_names: list[str]
    names: list[str]

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


def thumbnail(encoded: bytes, side: int = THUMBNAIL_SIDE) -> tuple[str, int, int]:
    """An encoded image as (data URI, width, height), its longer side at most ``side`` pixels."""
    with Image.open(io.BytesIO(encoded)) as image:
        small = image.convert("L" if image.mode in ("1", "L") else "RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    choices = []
    for kind, options in (("png", {"optimize": True}), ("jpeg", {"quality": _JPEG_QUALITY})):
        buffer = io.BytesIO()
        small.save(buffer, kind, **options)
        choices.append((len(buffer.getvalue()), kind, buffer.getvalue()))
    # Drawings come out smaller, and sharper, as PNG; photographs as JPEG.
    _, kind, data = min(choices)
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}", *small.size


def picture(
    images: Images, i: int, similarity: float | None = None, right: bool | None = None
) -> Picture:
    """Image i of a split, ready for a page."""
    uri, width, height = thumbnail(images.bytes(int(i)))
    class_name = images.class_names[int(images.labels[i])]
    return Picture(uri, width, height, class_name, images.names[i], similarity, right)


def answerable(labels_N: np.ndarray) -> np.ndarray:
    """Items [Q] that have another item of their class to be found."""
    _, class_N, count_C = np.unique(labels_N, return_inverse=True, return_counts=True)
    return np.flatnonzero(count_C[class_N] > 1)


def random_queries(
    images: Images,
    embeddings_ND: np.ndarray,
    labels_N: np.ndarray,
    *,
    count: int,
    k: int,
    seed: int,
) -> list[Retrieved]:
    """``count`` seeded draws among the queries that have an answer, each with its k nearest."""
    candidates = answerable(labels_N)
    if not len(candidates):
        return []
    drawn = np.random.default_rng(seed).permutation(candidates)[:count]
    similarities_Nk, indices_Nk = neighbors(embeddings_ND, k)
    return [
        Retrieved(
            picture(images, query),
            [
                picture(images, i, float(similarity), bool(labels_N[i] == labels_N[query]))
                for i, similarity in zip(indices_Nk[query], similarities_Nk[query], strict=True)
            ],
        )
        for query in drawn
    ]


def worst_failures(
    images: Images, embeddings_ND: np.ndarray, labels_N: np.ndarray, *, count: int
) -> tuple[list[Failure], int]:
    """The ``count`` failures with the largest gap, largest first, and how many there are in all.

    A wrong item that only ties with the best right one is no failure: another order of the same
    similarities would have been right.
    """
    if not len(answerable(labels_N)):
        return [], 0
    unit_ND = unit_rows(embeddings_ND)
    nearest_s, nearest_i = (column[:, 0] for column in neighbors(embeddings_ND, 1))
    best_s, best_i = _nearest_right(unit_ND, labels_N)
    gap_N = nearest_s - best_s
    gap_N[(labels_N[nearest_i] == labels_N) | ~np.isfinite(gap_N) | (gap_N <= TIE)] = -1
    failing = np.flatnonzero(gap_N > 0)
    worst = failing[np.argsort(-gap_N[failing], kind="stable")][:count]
    rows = []
    for query in worst:
        nearer_N = unit_ND @ unit_ND[query] > best_s[query] + TIE
        nearer_N[query] = False
        rows.append(
            Failure(
                query=picture(images, query),
                wrong=picture(images, nearest_i[query], float(nearest_s[query]), False),
                right=picture(images, best_i[query], float(best_s[query]), True),
                gap=float(gap_N[query]),
                rank=int(nearer_N.sum()) + 1,
            )
        )
    return rows, len(failing)


def _nearest_right(unit_ND: np.ndarray, labels_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Similarity [N] and index [N] of every item's nearest of its class; -inf where it is alone."""
    best_s = np.full(len(labels_N), -np.inf, dtype=np.float32)
    best_i = np.full(len(labels_N), -1, dtype=np.int64)
    order = np.argsort(labels_N, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(labels_N[order])) + 1):
        if len(members) < 2:
            continue
        within = unit_ND[members] @ unit_ND[members].T
        np.fill_diagonal(within, -np.inf)
        best = within.argmax(axis=1)
        best_s[members] = within[np.arange(len(members)), best]
        best_i[members] = members[best]
    return best_s, best_i
