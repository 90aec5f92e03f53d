"""What retrieval looks like: random queries with their neighbors, and the worst failures."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import Image

from rhs.retrieval.neighbors import TIE, neighbors, unit_rows
from rhs.retrieval.recall import answerable

THUMBNAIL_SIDE = 96
_JPEG_QUALITY = 82


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
    candidates = np.flatnonzero(answerable(labels_N, images.queries))
    if not len(candidates):
        return []
    drawn = np.random.default_rng(seed).permutation(candidates)[:count]
    similarities_Qk, indices_Qk = neighbors(embeddings_ND, k, images.queries)
    rows = np.searchsorted(_asking(images), drawn)
    return [
        Retrieved(
            picture(images, query),
            [
                picture(images, i, float(similarity), bool(labels_N[i] == labels_N[query]))
                for i, similarity in zip(indices_Qk[row], similarities_Qk[row], strict=True)
            ],
        )
        for query, row in zip(drawn, rows, strict=True)
    ]


def _asking(images: Images) -> np.ndarray:
    """The queries [Q], row for row those of `neighbors`."""
    everything = np.arange(len(images.labels))
    return everything if images.queries is None else everything[images.queries]


def worst_failures(
    images: Images, embeddings_ND: np.ndarray, labels_N: np.ndarray, *, count: int
) -> tuple[list[Failure], int]:
    """The ``count`` failures with the largest gap, largest first, and how many there are in all.

    A wrong item that only ties with the best right one is no failure: another order of the same
    similarities would have been right.
    """
    if not answerable(labels_N, images.queries).any():
        return [], 0
    unit_ND, asking = unit_rows(embeddings_ND), _asking(images)
    nearest_s, nearest_i = (column[:, 0] for column in neighbors(embeddings_ND, 1, images.queries))
    best_s, best_i = (a[asking] for a in _nearest_right(unit_ND, labels_N, images.queries))
    gap_Q = nearest_s - best_s
    gap_Q[(labels_N[nearest_i] == labels_N[asking]) | ~np.isfinite(gap_Q) | (gap_Q <= TIE)] = -1
    failing = np.flatnonzero(gap_Q > 0)
    worst = failing[np.argsort(-gap_Q[failing], kind="stable")][:count]
    rows = []
    for row in worst:
        nearer_N = unit_ND @ unit_ND[asking[row]] > best_s[row] + TIE
        nearer_N[asking[row] if images.queries is None else images.queries] = False
        rows.append(
            Failure(
                query=picture(images, asking[row]),
                wrong=picture(images, nearest_i[row], float(nearest_s[row]), False),
                right=picture(images, best_i[row], float(best_s[row]), True),
                gap=float(gap_Q[row]),
                rank=int(nearer_N.sum()) + 1,
            )
        )
    return rows, len(failing)


def _nearest_right(
    unit_ND: np.ndarray, labels_N: np.ndarray, queries_N: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Similarity [N] and index [N] of every item's nearest of its class; -inf where it has none."""
    best_s = np.full(len(labels_N), -np.inf, dtype=np.float32)
    best_i = np.full(len(labels_N), -1, dtype=np.int64)
    order = np.argsort(labels_N, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(labels_N[order])) + 1):
        if len(members) < 2:
            continue
        within = unit_ND[members] @ unit_ND[members].T
        if queries_N is None:
            np.fill_diagonal(within, -np.inf)
        else:
            within[:, queries_N[members]] = -np.inf
        best = within.argmax(axis=1)
        best_s[members] = within[np.arange(len(members)), best]
        best_i[members] = members[best]
    return best_s, best_i
