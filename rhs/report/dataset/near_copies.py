"""Finds near copies among thumbnails.

No hashes, which would have to be tuned to the images: every image's NEIGHBORS most similar others
are looked up exactly (cosine of normalized thumbnails), and each such pair is laid over each other
and compared (`rhs.report.dataset.thumbnail_alignment`). The thresholds were chosen by looking at
what they find in photographs of cars, birds and groceries, and in 24,863 letterforms, where an
accent makes another class.
"""

from __future__ import annotations

from collections.abc import Iterator

import faiss
import numpy as np
from tqdm import tqdm

from rhs.report.dataset.fingerprints import SIDE
from rhs.report.dataset.thumbnail_alignment import compare, normalized

NEIGHBORS = 16  # of each image that are compared with it
MORE_NEIGHBORS = 256  # of an image all of whose NEIGHBORS are copies; still more join in chains
CANDIDATE = 0.8  # correlation before the two are laid over each other
CORRELATION = 0.975  # and after
DIFFERENCE = 0.3  # in any one place, as a share of the range from darkest to lightest
CONTRAST = 2.0  # gray levels, standard deviation; below, an image is blank and has no near copies
_QUERIES, _PAIRS = 1024, 2048  # worked on at once


def near_pairs(
    gray_NHW: np.ndarray, first_U: np.ndarray, mirrored: bool
) -> Iterator[tuple[int, int, float, bool]]:
    """(a, b, correlation, whether mirrored) of near copies, a < b places in `first_U`."""
    contrast_U = np.array([gray_NHW[i].std() for i in first_U])
    clear_V = np.flatnonzero(contrast_U >= CONTRAST)
    thumbnails = _Thumbnails(gray_NHW, first_U[clear_V])
    count = len(clear_V)
    found = np.zeros(0, dtype=np.int64)
    for flipped in (False, True) if mirrored else (False,):
        asking_Q, tried, copies_V = np.arange(count), found, np.zeros(count, dtype=np.int64)
        for neighbors in (NEIGHBORS, MORE_NEIGHBORS):
            key = _candidates(thumbnails, asking_Q, neighbors, flipped)
            key = key[~np.isin(key, tried)]  # as it is, where it is a copy both ways
            tried = np.concatenate([tried, key])
            for a, b, correlation in _compared(thumbnails, key, flipped):
                found = np.concatenate([found, a * count + b])
                np.add.at(copies_V, np.concatenate([a, b]), 1)
                for i, j, r in zip(clear_V[a], clear_V[b], correlation, strict=True):
                    yield int(i), int(j), min(float(r), 1.0), flipped
            asking_Q = np.flatnonzero(copies_V >= NEIGHBORS)


def _compared(
    thumbnails: _Thumbnails, key: np.ndarray, flipped: bool
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(a, b, correlation) of those pairs that are copies, some at a time."""
    for start in range(0, len(key), _PAIRS):
        a, b = np.divmod(key[start : start + _PAIRS], len(thumbnails))
        x, y = thumbnails[a][:, :, :: -1 if flipped else 1], thumbnails[b]
        likely = np.einsum("phw,phw->p", x, y) >= CANDIDATE
        a, b = a[likely], b[likely]
        correlation, difference = compare(x[likely], y[likely])
        good = (correlation >= CORRELATION) & (difference <= DIFFERENCE)
        yield a[good], b[good], correlation[good]


class _Thumbnails:
    """Normalized thumbnails of the chosen images, made when asked for: they take 4 KiB each."""

    def __init__(self, gray_NHW: np.ndarray, chosen_V: np.ndarray) -> None:
        self.gray_NHW, self.chosen_V = gray_NHW, chosen_V

    def __len__(self) -> int:
        return len(self.chosen_V)

    def __getitem__(self, wanted: slice | np.ndarray) -> np.ndarray:
        return normalized(self.gray_NHW[self.chosen_V[wanted]])

    def halved(self, wanted: slice | np.ndarray, flipped: bool = False) -> np.ndarray:
        """Float32 [P, D] at half the side: an orthogonal projection, so no two move apart."""
        x = self[wanted][:, :, :: -1 if flipped else 1]
        half = SIDE // 2
        return x.reshape(-1, half, 2, half, 2).sum((2, 4)).reshape(-1, half * half) / 2


def _candidates(
    thumbnails: _Thumbnails, asking_Q: np.ndarray, neighbors: int, flipped: bool
) -> np.ndarray:
    """Pairs a < b as a * len + b, sorted: the nearest of those asking that may correlate enough."""
    count = len(thumbnails)
    if not len(asking_Q):
        return np.zeros(0, dtype=np.int64)
    index = faiss.IndexFlatL2((SIDE // 2) ** 2)
    for start in range(0, count, _QUERIES):
        index.add(thumbnails.halved(slice(start, start + _QUERIES)))
    keys = [np.zeros(0, dtype=np.int64)]
    title = "look for mirrored copies" if flipped else "look for near copies"
    with tqdm(total=len(asking_Q), desc=title, disable=None) as bar:
        for start in range(0, len(asking_Q), _QUERIES):
            chunk = asking_Q[start : start + _QUERIES]
            squared, j = index.search(thumbnails.halved(chunk, flipped), min(neighbors + 1, count))
            i = chunk[:, None]
            # Vectors of length 1 with correlation r are sqrt(2 - 2 r) apart, projected or nearer.
            near = (squared <= 2 - 2 * CANDIDATE) & (i != j)
            keys.append((np.minimum(i, j) * count + np.maximum(i, j))[near])
            bar.update(len(chunk))
    return np.unique(np.concatenate(keys))
