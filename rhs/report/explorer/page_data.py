"""What the explorer page shows, as plain data: images, neighbors, typical images, a map.

Its keys are documented in `explored`; the page's own script reads them, and reads them again out of
another run's page to lay the two side by side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from rhs.metrics.retrieval_results import RetrievalResults
from rhs.report.embedding_map import Projection
from rhs.report.pictures import Images, thumbnail

FORMAT = "rhs-explorer-1"
NEIGHBORS = 10
TYPICAL = 5  # images of a class that stand for it
_SIDE = 64  # of a thumbnail, in pixels
_SAMPLE_SEED = 0  # not the run's: runs of the same data then show the same images
_PICTURES = 10_000  # on a page; neighbors beyond are shown by their names
_BLANK = (  # one gray pixel
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGO4AAAAzgDNKWWkrAAAAABJRU5ErkJggg=="
)
_PAIRS = 5000  # of confused classes, most frequent first
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


def build_page_data(
    images: Images,
    found: RetrievalResults,
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
        ``format``; ``about``, with the test images' own digest added; ``classes`` [C], names, of
        all test images; ``asked`` [C], [queries with an answer, their hits in all], and ``pairs``,
        [class, class its queries are taken for, count], both of all queries; ``pairs_in_all``;
        ``names``, ``labels`` and ``thumbs`` [I] of the images, the last two indices into
        ``classes`` and ``pictures``; ``pictures``, data URIs; ``queries`` [Q], which images ask,
        with their ``neighbors`` [Q, <= k], ``similarities`` (cosine), ``hits`` (chance that the
        nearest is right; null: has no answer) and ``ranks`` (of the first right one, or null);
        ``typical`` [C, <= TYPICAL], images, none of a class not on the page; and ``map``:
        ``images`` [P], ``x`` and ``y``, or null.
    """
    rows = np.flatnonzero(np.isin(found.asking_Q, shown_S))
    near_Qk = found.indices_Qk[rows, :NEIGHBORS]
    kept = np.union1d(shown_S, near_Qk).astype(np.int64)
    classes_C, label_N = np.unique(found.labels_N, return_inverse=True)
    label_I = label_N[kept]
    pairs, pairs_in_all = _pairs(found, label_N)
    thumbs, pictures = _thumbnails(images, kept, np.isin(kept, _pictured(shown_S, near_Qk)))
    return {
        "format": FORMAT,
        "about": {**about, "data": data_digest(images)},
        "classes": [images.class_names[int(label)] for label in classes_C],
        "asked": _asked(found, label_N, len(classes_C)),
        "pairs": pairs,
        "pairs_in_all": pairs_in_all,
        "names": [images.names[i] for i in kept],
        "labels": label_I.tolist(),
        "thumbs": thumbs,
        "pictures": pictures,
        "queries": np.searchsorted(kept, found.asking_Q[rows]).tolist(),
        "neighbors": np.searchsorted(kept, near_Qk).tolist(),
        "similarities": _rounded(found.similarities_Qk[rows, :NEIGHBORS], 4),
        "hits": [None if np.isnan(hit) else round(float(hit), 4) for hit in found.hit_Q[rows]],
        "ranks": _ranks(found, rows),
        "typical": _typical(found.unit_ND[kept], label_I, len(classes_C)),
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


def _thumbnails(
    images: Images, kept_I: np.ndarray, pictured_I: np.ndarray
) -> tuple[list[int], list[str]]:
    """Each image's place among the pictures, and these as data URIs; one blank one for the rest."""
    place: dict[str, int] = {}
    thumbs = []
    for i, pictured in zip(kept_I, pictured_I, strict=True):
        uri = thumbnail(images.bytes(int(i)), _SIDE, "webp")[0] if pictured else _BLANK
        thumbs.append(place.setdefault(uri, len(place)))
    return thumbs, list(place)


def _ranks(found: RetrievalResults, rows: np.ndarray) -> list[int | None]:
    """The rank of the first right one, None without any; only failures need a search for it."""
    rank_R = np.ones(len(rows), dtype=np.int64)
    failing = found.failing_Q[rows]
    rank_R[failing] = found.ranks(rows[failing])
    has_R = found.answerable_Q[rows]
    return [int(rank) if has else None for rank, has in zip(rank_R, has_R, strict=True)]


def _rounded(values: np.ndarray, digits: int) -> list:
    return values.astype(np.float64).round(digits).tolist()


def _typical(unit_ID: np.ndarray, label_I: np.ndarray, classes: int) -> list[list[int]]:
    """The images nearest to the mean of their class, among those on the page; nearest first."""
    order = np.argsort(label_I, kind="stable")
    typical = []
    for members in np.split(order, np.searchsorted(label_I[order], np.arange(1, classes))):
        likeness = unit_ID[members] @ (unit_ID[members].sum(axis=0) / max(1, len(members)))
        typical.append(members[np.argsort(-likeness, kind="stable")[:TYPICAL]].tolist())
    return typical[:classes]


def _asked(found: RetrievalResults, label_N: np.ndarray, classes: int) -> list[list[float]]:
    """Of each class, over all queries: how many have an answer, and the sum of their hits."""
    counted = found.answerable_Q
    label_A = label_N[found.asking_Q[counted]]
    count_C = np.bincount(label_A, minlength=classes)
    hits_C = np.bincount(label_A, weights=found.hit_Q[counted], minlength=classes)
    return [[int(n), round(float(s), 4)] for n, s in zip(count_C, hits_C, strict=True)]


def _pairs(found: RetrievalResults, label_N: np.ndarray) -> tuple[list[list[int]], int]:
    """Which classes' failures are nearest to which, over all queries, and how many such pairs."""
    if not found.failing_Q.any():
        return [], 0
    of_F = label_N[found.asking_Q[found.failing_Q]]
    as_F = label_N[found.indices_Qk[found.failing_Q, 0]]
    pairs_P2, count_P = np.unique(np.stack([of_F, as_F], axis=1), axis=0, return_counts=True)
    most = np.argsort(-count_P, kind="stable")[:_PAIRS]
    listed = np.column_stack([pairs_P2[most], count_P[most]]).tolist()
    return listed, len(count_P)


def _map(placed: Projection, kept: np.ndarray) -> dict[str, list]:
    """Whole coordinates that keep the projection's shape, from 0."""
    xy_P2 = placed.xy_P2 - placed.xy_P2.min(axis=0)
    xy_P2 = (xy_P2 * (_MAP / max(float(xy_P2.max()), 1e-9))).round().astype(np.int64)
    items = np.searchsorted(kept, placed.items_P).tolist()
    return {"images": items, "x": xy_P2[:, 0].tolist(), "y": xy_P2[:, 1].tolist()}
