"""NMI: how well k-means finds the classes again, k being how many there are.

The rows are clustered by ordinary k-means (Euclidean, centroids are plain means) on unit vectors,
as in Sohn (NIPS 2016), Song et al. (CVPR 2016) and pytorch-metric-learning; spherical k-means would
normalize the centroids as well, and be another number. NMI = 2 I / (H + H), the mutual information
of clusters and classes against the arithmetic mean of their entropies. It is far from 0 by chance
where classes are small: compare methods on the same rows only.
"""

from __future__ import annotations

from dataclasses import dataclass

import faiss
import numpy as np
from tqdm import tqdm

from rhs.metrics.cosine import unit_rows
from rhs.metrics.inputs import SEED_LIMIT, classes, whole

ITERATIONS = 20  # of k-means, each run
_COVERED = 95  # percent, of an interval


@dataclass(frozen=True)
class Clustering:
    """The NMI of several k-means runs.

    ``value`` in [0, 1]: their mean; ``by_seed``: each. ``interval``: 95 %, over classes; None where
    it was not asked for.
    """

    value: float
    interval: tuple[float, float] | None
    by_seed: tuple[float, ...]


def nmi(
    embeddings_ND: np.ndarray,
    labels_N: np.ndarray,
    *,
    seeds: int = 5,
    seed: int = 0,
    draws: int = 200,
    iterations: int = ITERATIONS,
    progress: bool = False,
) -> Clustering:
    """Normalized mutual information of the classes and the clusters of k-means.

    For a query/gallery set give the rows of both.

    The interval is the bootstrap over classes: each draw takes as many classes as there are, with
    replacement, as weights on the clusters that all rows made together. A class drawn twice is as
    easy to find as once while others are missing, so draws lie above the value, by more than their
    spread where classes are many: they are moved to have their mean at the value. In simulations
    (20 to 400 classes of 4 to 20 images, 8 to 64 dimensions, NMI 0.5 to 0.8, 120 to 300 populations
    each) the interval held the mean NMI of such data 90 to 93 times of 100; unmoved, 90 down to 0.
    Of one or two classes it is no more than the value.

    A run costs 2 N k D operations an iteration: at the size of Stanford Online Products (60,502 x
    512, 11,316 classes) 0.7 * 10^12, roughly 10 s on two cores, minutes a run; the interval takes a
    second. Memory beyond the rows: a unit copy of them and twice the centroids.

    Args:
        embeddings_ND: [N, D] finite numbers of any scale.
        labels_N: [N] class of each row, whole numbers or names; one with one row counts as well.
        seeds: runs of k-means, started with seed, seed + 1, ...
        draws: of the bootstrap; 0 gives no interval.
        iterations: of k-means, each run.
        progress: show a bar (only on a terminal).

    Returns:
        The same for the same arguments, faiss and processor. Another number of threads may change
        the last bits of a distance, and so move a row that is equally near to two centroids.
        Where both the classes and the clusters are one, NMI is 1.

    Raises:
        UserError: shapes that do not fit, NaN or infinity (names the row), a label that is neither
            a whole number nor a name, or a setting out of range.
    """
    seeds, draws = whole("seeds", seeds, least=1), whole("draws", draws, least=0)
    iterations = whole("iterations", iterations, least=1)
    seed = whole("seed", seed, least=0, most=SEED_LIMIT - seeds)
    unit_ND = unit_rows(embeddings_ND)
    class_N = classes(labels_N, len(unit_ND))
    k, hidden = int(class_N.max()) + 1, None if progress else True
    clusters = [
        kmeans(unit_ND, k, seed=each, iterations=iterations)
        for each in tqdm(range(seed, seed + seeds), "k-means", disable=hidden)
    ]
    by_seed = tuple(_nmi(class_N, cluster_N) for cluster_N in clusters)
    value = float(np.mean(by_seed))
    interval = _interval(class_N, clusters, value, draws, seed) if draws else None
    return Clustering(value, interval, by_seed)


def kmeans(unit_ND: np.ndarray, k: int, *, seed: int, iterations: int) -> np.ndarray:
    """The cluster [N] of each row, below k; a cluster may be empty.

    Where there are no more than k different rows, each of them is a cluster.
    """
    same_N = _few_rows(unit_ND, k)
    if same_N is not None:
        return same_N
    # faiss would take 256 rows a centroid at most, and warn below 39.
    found = faiss.Kmeans(
        unit_ND.shape[1],
        k,
        niter=iterations,
        seed=seed,
        min_points_per_centroid=1,
        max_points_per_centroid=len(unit_ND),
    )
    found.train(unit_ND)
    return found.assign(unit_ND)[1]


def _few_rows(unit_ND: np.ndarray, most: int) -> np.ndarray | None:
    """Which of the different rows each row [N] is; None where there are more than `most`."""
    numbers: dict[bytes, int] = {}
    which_N = np.empty(len(unit_ND), dtype=np.int64)
    for i, row in enumerate(unit_ND):
        which_N[i] = numbers.setdefault((row + 0.0).tobytes(), len(numbers))  # -0.0 is 0.0
        if len(numbers) > most:
            return None
    return which_N


def _table(class_N: np.ndarray, cluster_N: np.ndarray) -> tuple[np.ndarray, ...]:
    """The cells of the contingency table that are not empty: class, cluster and rows of each."""
    width = int(cluster_N.max()) + 1
    cells, rows_T = np.unique(class_N * width + cluster_N, return_counts=True)
    return cells // width, cells % width, rows_T


def _nmi(class_N: np.ndarray, cluster_N: np.ndarray) -> float:
    return float(_weighted(_table(class_N, cluster_N), np.ones((1, int(class_N.max()) + 1)))[0])


def _weighted(table: tuple[np.ndarray, ...], weights_BC: np.ndarray) -> np.ndarray:
    """NMI [B] with each class counted as often as its weight says.

    With S(n) the sum of n log n: I = (S(cells) - S(classes) - S(clusters)) / T + log T and
    H = log T - S / T, T being the weighted number of rows.
    """
    class_T, cluster_T, rows_T = table
    rows_C = np.bincount(class_T, rows_T)
    cells_C = np.bincount(class_T, rows_T * np.log(rows_T))
    total_B = weights_BC @ rows_C
    extra_B = _n_log_n(weights_BC) @ rows_C  # w n log(w n) = w (n log n) + n (w log w)
    cells_B = weights_BC @ cells_C + extra_B
    classes_B = weights_BC @ (rows_C * np.log(rows_C)) + extra_B
    clusters_B = np.array(
        [_n_log_n(np.bincount(cluster_T, w_C[class_T] * rows_T)).sum() for w_C in weights_BC]
    )
    log_B = np.log(total_B)
    of_classes_B, of_clusters_B = log_B - classes_B / total_B, log_B - clusters_B / total_B
    shared_B = of_classes_B + of_clusters_B - (log_B - cells_B / total_B)
    both_B = of_classes_B + of_clusters_B
    alone_B = both_B < 1e-9  # one class in one cluster
    return np.where(alone_B, 1.0, np.clip(2 * shared_B / np.where(alone_B, 1.0, both_B), 0.0, 1.0))


def _n_log_n(numbers: np.ndarray) -> np.ndarray:
    return numbers * np.log(np.where(numbers > 0, numbers, 1.0))


def _interval(
    class_N: np.ndarray, clusters: list[np.ndarray], value: float, draws: int, seed: int
) -> tuple[float, float]:
    """From where to where 95 % of the draws lie, once moved to have their mean at the value."""
    classes = int(class_N.max()) + 1
    random = np.random.default_rng(seed)
    tables = [_table(class_N, cluster_N) for cluster_N in clusters]
    drawn: list[float] = []
    while len(drawn) < draws:
        weights_1C = np.bincount(random.integers(classes, size=classes), minlength=classes)[None]
        if classes == 1 or (weights_1C > 0).sum() > 1:  # a class alone among others has no NMI
            drawn.append(float(np.mean([_weighted(table, weights_1C)[0] for table in tables])))
    tail = (100 - _COVERED) / 2
    low, high = np.percentile(drawn, [tail, 100 - tail]) + value - np.mean(drawn)
    return float(np.clip(low, 0.0, value)), float(np.clip(high, value, 1.0))
