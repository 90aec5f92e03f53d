"""Copies of images, exact and near, and what they do to Recall@K.

Exact copies are the same pixel for pixel, near copies the same picture in another encoding, size or
brightness, cropped a little or mirrored (`rhs.report.dataset.near_copies`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from rhs.report.dataset.fingerprints import SPLITS, Fingerprints
from rhs.report.dataset.near_copies import near_pairs


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
    for a, b, correlation, flipped in near_pairs(images.gray_NHW, first_U, mirrored):
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
