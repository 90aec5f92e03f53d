"""What retrieval compares: unit vectors, their similarity, and which differences mean anything.

The similarity of two items is the cosine of their embeddings: the dot product of the two float32
unit rows, in float64. Products in float32 or int8 only narrow down where it lies; what they leave
open is settled. So no result depends on the size of a block, on the
processor or on how many machines share the gallery.

What counts as a tie. The embeddings themselves carry the network's float32 rounding (a few 1e-7),
so two similarities that differ by no more than ``TIE`` = 1e-6 are not told apart.
"""

from __future__ import annotations

import numpy as np

from rhs.errors import UserError
from rhs.metrics.inputs import matrix

TIE = 1e-6
_ROWS = 8192  # made float64 at a time


def unit_rows(embeddings_ND: np.ndarray, least: int = 2) -> np.ndarray:
    """Checked, L2-normalized, C-ordered float32 copy [N, D]; zero rows stay zero.

    Raises:
        UserError: not a matrix of real numbers, fewer than `least` rows, NaN or infinity (names the
            row).
    """
    embeddings_ND = matrix(embeddings_ND, least)
    unit_ND = np.empty(embeddings_ND.shape, dtype=np.float32)
    bad: list[int] = []
    for first in range(0, len(unit_ND), _ROWS):
        rows = slice(first, first + _ROWS)
        # In float64: the squares of large float32 activations overflow, those of small ones vanish.
        with np.errstate(over="ignore"):  # of longer floats: infinity is told below
            wide = embeddings_ND[rows].astype(np.float64)
        bad += (first + np.flatnonzero(~np.isfinite(wide).all(axis=1))).tolist()
        if bad:
            continue  # only to count them
        wide /= np.maximum(np.abs(wide).max(axis=1, keepdims=True), np.finfo(np.float64).tiny)
        norms = np.linalg.norm(wide, axis=1, keepdims=True)
        unit_ND[rows] = wide / np.where(norms > 0, norms, 1.0)
    if bad:
        more = f" (and {len(bad) - 1:,} more)" if len(bad) > 1 else ""
        raise UserError(
            f"Embedding row {bad[0]}{more} holds NaN or infinity; every value must be finite."
        )
    return unit_ND


def searchable(count: int, queries_N: np.ndarray | None) -> int:
    """How many of `count` items each query is compared with."""
    return count - 1 if queries_N is None else int((~queries_N).sum())


def answerable(labels_N: np.ndarray, queries_N: np.ndarray | None = None) -> np.ndarray:
    """Which items [N] are queries that have an item of their class to be found."""
    if queries_N is not None:
        return queries_N & np.isin(labels_N, labels_N[~queries_N])
    _, class_N, count_C = np.unique(labels_N, return_inverse=True, return_counts=True)
    return count_C[class_N] > 1
