"""Copies of images, exact and near, and what they do to Recall@K.

Exact copies are the same pixel for pixel, near copies the same picture in another encoding, size or
brightness, cropped a little or mirrored. Near copies are found without hashes, which would have to
be tuned to the images: every image's NEIGHBORS most similar others are looked up exactly (cosine of
normalized thumbnails), and each such pair is laid over each other and compared
(`rhs.report.dataset.thumbnail_alignment`). The thresholds were chosen by looking at what they find
in photographs of cars, birds and groceries, and in 24,863 letterforms, where an accent makes
another class.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import faiss
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from tqdm import tqdm

from rhs.report.dataset.fingerprints import SIDE, SPLITS, Fingerprints
from rhs.report.dataset.thumbnail_alignment import compare, normalized

NEIGHBORS = 16  # of each image that are compared with it
MORE_NEIGHBORS = 256  # of an image all of whose NEIGHBORS are copies; still more join in chains
CANDIDATE = 0.8  # correlation before the two are laid over each other
CORRELATION = 0.975  # and after
DIFFERENCE = 0.3  # in any one place, as a share of the range from darkest to lightest
CONTRAST = 2.0  # gray levels, standard deviation; below, an image is blank and has no near copies
_QUERIES, _PAIRS = 1024, 2048  # worked on at once


@dataclass(frozen=True)
class Kind:
    """What a pair of copies means for the evaluation; the worst kind comes first in KINDS."""

    key: str
    title: str
    note: str


KINDS = (
    Kind(
        "leak",
        "Seen in training",
        "A test image has a copy among the training or validation "
        "images, under another class: the network was taught about it.",
    ),
    Kind(
        "free",
        "Free answers",
        "A query finds a copy of itself in its own class: a right answer "
        "that asks nothing of the network.",
    ),
    Kind(
        "conflict",
        "No right label",
        "Copies in different test classes: whichever is found, one label says it is wrong.",
    ),
    Kind(
        "one_side",
        "On one side of the search",
        "Two queries or two gallery images of one class: "
        "the same question twice, or an answer too many; no query finds itself.",
    ),
    Kind(
        "train_conflict",
        "Different classes in training",
        "Copies in different training or validation classes: the loss pulls them apart.",
    ),
    Kind(
        "train_same",
        "Same class in training",
        "Counted twice, and as a positive too easy to learn from.",
    ),
)
KEYS = tuple(kind.key for kind in KINDS)


@dataclass(frozen=True)
class Copies:
    """Which of N images have copies.

    Attributes:
        group_N: number of the group of images that are copies of each other, in order of their
            first image; -1 for an image without copies.
        exact_NK, near_NK: bool [N, len(KINDS)], whether the image has such a copy of that kind.
        correlation_NK: with its most similar copy of that kind; 1 for an exact one, 0 for none.
        mirrored_NK: bool, whether that one is a mirror image of it.
    """

    group_N: np.ndarray
    exact_NK: np.ndarray
    near_NK: np.ndarray
    correlation_NK: np.ndarray
    mirrored_NK: np.ndarray


def find_copies(images: Fingerprints, mirrored: bool) -> Copies:
    """Every exact copy, and the near copies among each image's most similar ones.

    Args:
        mirrored: find mirror images too; for data where they show the same thing.
    """
    n = len(images)
    copies = Copies(
        np.full(n, -1),
        *(np.zeros((n, len(KINDS)), kind) for kind in (bool, bool, np.float32, bool)),
    )
    order = np.argsort(images.pixels_N, kind="stable")
    same = np.split(order, np.flatnonzero(np.diff(images.pixels_N[order])) + 1)
    links = [np.zeros((0, 2), dtype=np.int64)]
    for members in same:
        if len(members) > 1:
            _note(copies, images, members, members, copies.exact_NK)
            links.append(np.stack([members[:-1], members[1:]], 1))
    first_U = np.array([members[0] for members in same], dtype=np.int64)
    for a, b, correlation, flipped in _near_pairs(images.gray_NHW, first_U, mirrored):
        _note(
            copies,
            images,
            same[a],
            same[b],
            copies.near_NK,
            correlation=correlation,
            mirrored=flipped,
        )
        links.append(np.array([[same[a][0], same[b][0]]]))
    copies.group_N[:] = _groups(n, np.concatenate(links))
    return copies


def kind_of_pair(
    split_P: np.ndarray, other_split_P: np.ndarray, same_class_P: np.ndarray
) -> np.ndarray:
    """Index into KINDS [P] of pairs of copies; splits are indices into SPLITS."""
    trained_P, other_trained_P = (s <= SPLITS.index("val") for s in (split_P, other_split_P))
    apart_P = (split_P != other_split_P) | (split_P == SPLITS.index("test"))
    kinds = [
        (trained_P != other_trained_P, "leak"),
        (trained_P & same_class_P, "train_same"),
        (trained_P, "train_conflict"),
        (~same_class_P, "conflict"),
        (apart_P, "free"),
    ]
    keys = [KEYS.index(key) for _, key in kinds]
    return np.select([when for when, _ in kinds], keys, KEYS.index("one_side"))


def queries_with_answers(images: Fingerprints) -> np.ndarray:
    """Bool [N]: test images that are queries and whose class is there to be found."""
    test_N = images.split_N >= SPLITS.index("test")
    if np.any(images.split_N == SPLITS.index("query")):
        gallery = images.label_N[images.split_N == SPLITS.index("gallery")]
        return (images.split_N == SPLITS.index("query")) & np.isin(images.label_N, gallery)
    count_C = np.bincount(images.label_N[test_N], minlength=len(images.class_names))
    return test_N & (count_C[images.label_N] > 1)


def _note(
    copies: Copies,
    images: Fingerprints,
    some: np.ndarray,
    others: np.ndarray,
    flag_NK: np.ndarray,
    *,
    correlation: float = 1.0,
    mirrored: bool = False,
) -> None:
    """Flag every pair of one of `some` and one of `others`, an image not with itself."""
    for i in some:
        j = others[others != i]
        same_class = images.label_N[i] == images.label_N[j]
        split = np.broadcast_to(images.split_N[i], j.shape)
        kind = kind_of_pair(split, images.split_N[j], same_class)
        for which in (np.full_like(j, i), j):
            flag_NK[which, kind] = True
            better = correlation > copies.correlation_NK[which, kind]
            copies.correlation_NK[which[better], kind[better]] = correlation
            copies.mirrored_NK[which[better], kind[better]] = mirrored


def _near_pairs(
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

    def __getitem__(self, wanted) -> np.ndarray:
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


def _groups(n: int, links_L2: np.ndarray) -> np.ndarray:
    """Number of the group of each of n images that the links join, by first image; -1 for none."""
    ones = np.ones(len(links_L2), dtype=bool)
    graph = coo_array((ones, (links_L2[:, 0], links_L2[:, 1])), shape=(n, n))
    _, component_N = connected_components(graph, directed=False)
    linked = np.unique(links_L2)
    _, at, number = np.unique(component_N[linked], return_index=True, return_inverse=True)
    group_N = np.full(n, -1)
    group_N[linked] = np.argsort(np.argsort(at))[number]
    return group_N
