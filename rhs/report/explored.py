"""What the explorer page shows, as plain data: images, neighbors, typical images, a map.

Its keys are documented in `explored`; the page's own script reads them, and reads them again out of
another run's page to lay the two side by side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from rhs.report.gallery import Images, thumbnail
from rhs.report.map2d import Projection
from rhs.report.search import Found

FORMAT = "rhs-explorer-1"
NEIGHBORS = 10
TYPICAL = 5  # images of a class that stand for it
_SIDE = 64  # of a thumbnail, in pixels
_SAMPLE_SEED = 0  # not the run's: runs of the same data then show the same images
_PICTURES = 10_000  # on a page; neighbors beyond are shown by their names
_BLANK = (  # one gray pixel
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGO4AAAAzgDNKWWkrAAAAABJRU5ErkJggg=="
)
_MAP = 10_000  # the map's larger side; coordinates are whole numbers


def choose_shown(labels_N: np.ndarray, most: int) -> np.ndarray:
    """Indices [S], ascending, of whole classes in random order, as many as fit; where none does, of
    random images of the smallest class."""
    if len(labels_N) <= most:
        return np.arange(len(labels_N))
    classes_C, class_N, count_C = np.unique(labels_N, return_inverse=True, return_counts=True)
    taken_C = np.zeros(len(classes_C), dtype=bool)
    left, random = most, np.random.default_rng(_SAMPLE_SEED)
    for candidate in random.permutation(len(classes_C)):
        if count_C[candidate] <= left:
            taken_C[candidate] = True
            left -= count_C[candidate]
    if not taken_C.any():
        return np.sort(random.permutation(np.flatnonzero(class_N == count_C.argmin()))[:most])
    return np.flatnonzero(taken_C[class_N])


def explored(
    images: Images,
    found: Found,
    shown_S: np.ndarray,
    placed: Projection | None,
    about: Mapping[str, Any],
) -> dict[str, Any]:
    """The page's data. Images are numbered anew: those shown, and what their queries found.

    Args:
        shown_S: images whose queries are shown, ascending (`choose_shown`).
        placed: where images lie on the map; all of them among those shown.
        about: facts of the run, for the page to print.

    Returns:
        ``format``; ``about``, with the test images' own digest added; ``classes`` [C], names;
        ``names``, ``labels`` and ``thumbs`` [I] of the images, the last two indices into
        ``classes`` and ``pictures``; ``pictures``, data URIs; ``queries`` [Q], which images ask,
        with their ``neighbors`` [Q, <= k], ``similarities`` (cosine), ``hits`` (chance that the
        nearest is right; null: has no answer) and ``ranks`` (of the first right one, or null);
        ``typical`` [C, <= TYPICAL], images; and ``map``: ``images`` [P], ``x`` and ``y``, or null.
    """
    rows = np.flatnonzero(np.isin(found.asking_Q, shown_S))
    near_Qk = found.indices_Qk[rows, :NEIGHBORS]
    kept = np.union1d(shown_S, near_Qk).astype(np.int64)
    classes_C, label_I = np.unique(found.labels_N[kept], return_inverse=True)
    pictures: dict[str, int] = {}
    pictured_I = np.isin(kept, _pictured(shown_S, near_Qk))
    thumbs = [
        pictures.setdefault(_small(images, i) if pictured else _BLANK, len(pictures))
        for i, pictured in zip(kept, pictured_I, strict=True)
    ]
    return {
        "format": FORMAT,
        "about": {**about, "data": data_digest(images)},
        "classes": [images.class_names[int(label)] for label in classes_C],
        "names": [images.names[i] for i in kept],
        "labels": label_I.tolist(),
        "thumbs": thumbs,
        "pictures": list(pictures),
        "queries": np.searchsorted(kept, found.asking_Q[rows]).tolist(),
        "neighbors": np.searchsorted(kept, near_Qk).tolist(),
        "similarities": _rounded(found.similarities_Qk[rows, :NEIGHBORS], 4),
        "hits": [None if np.isnan(hit) else round(float(hit), 4) for hit in found.hit_Q[rows]],
        "ranks": _ranks(found, rows),
        "typical": _typical(found.unit_ND[kept], label_I),
        "map": None if placed is None else _map(placed, kept),
    }


def _pictured(shown_S: np.ndarray, near_Qk: np.ndarray) -> np.ndarray:
    """Images whose pictures the page holds: those shown, and as many neighbors, nearest first, as
    there is room for."""
    pictured = shown_S
    for column in near_Qk.T:
        more = np.union1d(pictured, column)
        if len(more) > max(_PICTURES, len(shown_S)):
            break
        pictured = more
    return pictured


def data_digest(images: Images) -> str:
    """Of the test images' names, classes and roles: runs that agree in it can be compared."""
    digest = hashlib.sha256()
    asks = [None] * len(images.names) if images.queries is None else images.queries.tolist()
    for name, label, ask in zip(images.names, images.labels, asks, strict=True):
        digest.update(repr((name, images.class_names[int(label)], ask)).encode())
    return digest.hexdigest()[:16]


def _small(images: Images, i: int) -> str:
    return thumbnail(images.bytes(int(i)), _SIDE, "webp")[0]


def _ranks(found: Found, rows: np.ndarray) -> list[int | None]:
    """The rank of the first right one, None without any; only failures need a search for it."""
    rank_R = np.ones(len(rows), dtype=np.int64)
    failing = found.failing_Q[rows]
    rank_R[failing] = found.ranks(rows[failing])
    has_R = found.answerable_Q[rows]
    return [int(rank) if has else None for rank, has in zip(rank_R, has_R, strict=True)]


def _rounded(values: np.ndarray, digits: int) -> list:
    return values.astype(np.float64).round(digits).tolist()


def _typical(unit_ID: np.ndarray, label_I: np.ndarray) -> list[list[int]]:
    """The images nearest to the mean of their class, among those on the page; nearest first."""
    order = np.argsort(label_I, kind="stable")
    if not len(order):
        return []
    typical = []
    for members in np.split(order, np.flatnonzero(np.diff(label_I[order])) + 1):
        likeness = unit_ID[members] @ unit_ID[members].mean(axis=0)
        typical.append(members[np.argsort(-likeness, kind="stable")[:TYPICAL]].tolist())
    return typical


def _map(placed: Projection, kept: np.ndarray) -> dict[str, list]:
    """Whole coordinates that keep the projection's shape, from 0."""
    xy_P2 = placed.xy_P2 - placed.xy_P2.min(axis=0)
    xy_P2 = (xy_P2 * (_MAP / max(float(xy_P2.max()), 1e-9))).round().astype(np.int64)
    items = np.searchsorted(kept, placed.items_P).tolist()
    return {"images": items, "x": xy_P2[:, 0].tolist(), "y": xy_P2[:, 1].tolist()}
