"""A 2-D map of the test embeddings: t-SNE (van der Maaten & Hinton, 2008), drawn as plain SVG."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from rhs.metrics.cosine import unit_rows
from rhs.report.pictures import Images, thumbnail

WIDTH, HEIGHT, MARGIN = 1000, 720, 34
_THUMBNAIL_SIDE = 64
_PICTURE = 30  # side of a class's picture, in units of the view box
_FEWEST = 4  # below this many points a map says nothing


@dataclass(frozen=True)
class Projection:
    """Where images lie in two dimensions: their indices [P], ascending, and coordinates [P, 2]."""

    items_P: np.ndarray
    xy_P2: np.ndarray


@dataclass(frozen=True)
class MapClass:
    """One class on the map; coordinates in the units of the WIDTH x HEIGHT view box."""

    name: str
    color: str
    points: list[tuple[float, float]]
    anchor: tuple[float, float]
    uri: str


@dataclass(frozen=True)
class Map:
    """A drawn map: how many points, of how many classes out of how many."""

    classes: list[MapClass]
    points: int
    classes_in_all: int
    width: int = WIDTH
    height: int = HEIGHT
    picture: int = _PICTURE


def draw_map(
    images: Images,
    embeddings_ND: np.ndarray,
    labels_N: np.ndarray,
    *,
    seed: int,
    max_classes: int = 40,
    max_points: int = 1500,
    known: Projection | None = None,
) -> Map | None:
    """Map of a sample of large classes, each class whole; None when there is too little to map.

    Args:
        known: a projection made already; the sample is then of its images.
    """
    items = np.arange(len(labels_N)) if known is None else known.items_P
    limits = {"max_classes": max_classes, "max_points": max_points}
    chosen = items[choose_items(labels_N[items], **limits, seed=seed)]
    known = known or project(embeddings_ND, chosen, seed=seed)
    if known is None:
        return None
    unit_PD = unit_rows(embeddings_ND[chosen])
    xy_P2 = _fit_view(known.xy_P2[np.searchsorted(known.items_P, chosen)])
    labels_P = labels_N[chosen]
    classes: list[MapClass] = []
    for position, label in enumerate(np.unique(labels_P)):
        mine = np.flatnonzero(labels_P == label)
        typical = mine[np.argmax(unit_PD[mine] @ unit_PD[mine].mean(axis=0))]
        uri, _, _ = thumbnail(images.bytes(int(chosen[typical])), _THUMBNAIL_SIDE)
        classes.append(
            MapClass(
                name=images.class_names[int(label)],
                color=_color(position),
                points=[(round(x, 1), round(y, 1)) for x, y in xy_P2[mine].tolist()],
                anchor=_free_place(xy_P2[mine], [placed.anchor for placed in classes]),
                uri=uri,
            )
        )
    return Map(classes, len(chosen), len(np.unique(labels_N)))


def choose_items(
    labels_N: np.ndarray, *, max_classes: int, max_points: int, seed: int
) -> np.ndarray:
    """Indices [P] of whole classes, within both limits.

    Classes in the upper quarter by size count as equally large, in seeded order, so that the map
    is a fair sample of them and not of the few very largest; then smaller ones, largest first.
    Where not even one class fits, a random draw of ``max_points`` items.
    """
    rng = np.random.default_rng(seed)
    names_C, class_N, count_C = np.unique(labels_N, return_inverse=True, return_counts=True)
    taken: list[int] = []
    points = 0
    large_C = np.minimum(count_C, np.quantile(count_C, 0.75)) if len(count_C) else count_C
    for candidate in np.lexsort((rng.permutation(len(names_C)), -large_C)):
        if len(taken) < max_classes and points + count_C[candidate] <= max_points:
            taken.append(candidate)
            points += count_C[candidate]
    if not taken:
        return np.sort(rng.permutation(len(labels_N))[:max_points])
    return np.flatnonzero(np.isin(class_N, taken))


def project(embeddings_ND: np.ndarray, items_P: np.ndarray, *, seed: int) -> Projection | None:
    """t-SNE of these images; None of too few."""
    if len(items_P) < _FEWEST:
        return None
    unit_PD = unit_rows(embeddings_ND[items_P])
    # A start from principal components keeps the large-scale layout, but divides by their spread.
    has_spread = min(unit_PD.shape) >= 2 and float(unit_PD.std(axis=0).max()) > 1e-6
    tsne = TSNE(
        n_components=2,
        perplexity=min(30.0, (len(unit_PD) - 1) / 3),
        init="pca" if has_spread else "random",
        learning_rate="auto",
        random_state=seed,
    )
    # One thread: the same map on any number of cores, and a thousand short steps do not spend their
    # time waiting at barriers on a machine that has other work (27 s instead of 1 s, measured).
    with threadpool_limits(1):
        return Projection(items_P, tsne.fit_transform(unit_PD))


def _fit_view(xy_P2: np.ndarray) -> np.ndarray:
    """Scale into the view box, each axis by itself: distances on such a map carry no unit."""
    low, high = xy_P2.min(axis=0), xy_P2.max(axis=0)
    share = (xy_P2 - low) / np.maximum(high - low, 1e-9)
    return MARGIN + share * (np.array([WIDTH, HEIGHT]) - 2 * MARGIN)


def _free_place(xy_M2: np.ndarray, taken: list[tuple[float, float]]) -> tuple[float, float]:
    """Where the class's picture goes: over one of its own points, as central as is still free."""
    away_M = np.linalg.norm(xy_M2 - np.median(xy_M2, axis=0), axis=1)
    places = np.maximum(xy_M2[np.argsort(away_M, kind="stable")] - (0, _PICTURE), _PICTURE / 2 + 2)
    places = places.round(1)
    free = (xy for xy in places if all(np.abs(xy - other).max() > _PICTURE for other in taken))
    x, y = next(free, places[0]).tolist()
    return x, y


def _color(position: int) -> str:
    """Hues a golden angle apart, in three depths, so that 40 stay apart on light and dark pages."""
    return f"hsl({position * 137.508 % 360:.0f} 62% {(46, 58, 52)[position % 3]}%)"
