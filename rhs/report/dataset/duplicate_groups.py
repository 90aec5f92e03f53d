"""Copies of images made ready for the page, and the table of all of them."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rhs.report.dataset.duplicates import KEYS, KINDS, Copies, Kind
from rhs.report.dataset.fingerprints import SPLITS, Fingerprints
from rhs.report.pictures import Picture
from rhs.storage.csv_lists import safe_cell

GROUPS_SHOWN = 30  # of each kind
MEMBERS_SHOWN = 5  # of each group
TITLES = {
    "train": "Training",
    "val": "Validation",
    "test": "Test",
    "query": "Query",
    "gallery": "Gallery",
}
COLUMNS = (
    "group",
    "pixels",
    "split",
    "class",
    "name",
    "sha256",
    "exact_copies",
    "near_copies",
    "correlation",
    "mirrored",
)


@dataclass(frozen=True)
class Shown:
    """A picture, what is said above its class and what below."""

    picture: Picture
    above: str = ""
    below: str = ""


@dataclass(frozen=True)
class Group:
    """Copies of each other; `left` of them are not shown."""

    members: list[Shown]
    left: int


@dataclass(frozen=True)
class KindShown:
    """A kind of copies: how many images have one, in how many groups, and the worst groups.

    An image or group counts as near only if it has no exact copy of this kind; `left` groups are
    not shown.
    """

    kind: Kind
    exact_images: int
    near_images: int
    exact_groups: int
    near_groups: int
    groups: list[Group]
    left: int


def groups_of(kind: int, copies: Copies, images: Fingerprints) -> list[np.ndarray]:
    """The images of each group that have a copy of this kind; most images first, exact ones first.

    Inside a group, each class and split has its turn, so that the first few show what they share.
    """
    has = np.flatnonzero((copies.exact_NK | copies.near_NK)[:, kind])
    if not len(has):
        return []
    order = has[np.argsort(copies.group_N[has], kind="stable")]
    groups = np.split(order, np.flatnonzero(np.diff(copies.group_N[order])) + 1)
    groups.sort(key=lambda group: (-len(group), -copies.exact_NK[group, kind].sum(), group[0]))
    return [group[_turns(group, images)] for group in groups]


def _turns(group: np.ndarray, images: Fingerprints) -> np.ndarray:
    """An order in which each class of a split, and then each split, has its turn."""
    split, label = images.split_N[group], images.label_N[group]
    by_class = np.lexsort((label, split, occurrence(split * len(images.class_names) + label)))
    return by_class[np.lexsort((split[by_class], occurrence(split[by_class])))]


def occurrence(value_G: np.ndarray) -> np.ndarray:
    """How many times each value stood before."""
    order = np.argsort(value_G, kind="stable")
    first = np.flatnonzero(np.diff(value_G[order], prepend=-1))
    occurrence = np.empty(len(value_G), dtype=np.int64)
    lengths = np.diff(first, append=len(value_G))
    occurrence[order] = np.arange(len(value_G)) - np.repeat(first, lengths)
    return occurrence


def show_kind(
    kind: int,
    groups: list[np.ndarray],
    copies: Copies,
    images: Fingerprints,
    pictures: Mapping[int, Picture],
) -> KindShown:
    """The kind with its counts and its first GROUPS_SHOWN groups, as `groups_of` gives them."""
    exact_N, near_N = copies.exact_NK[:, kind], copies.near_NK[:, kind]
    exact_groups = sum(bool(exact_N[group].any()) for group in groups)

    def shown(i: int) -> Shown:
        if exact_N[i]:
            likeness = "exact"
        else:
            mirrored = " mirrored" if copies.mirrored_NK[i, kind] else ""
            likeness = f"{copies.correlation_NK[i, kind]:.3f}{mirrored}"
        return Shown(pictures[i], TITLES[SPLITS[images.split_N[i]]], likeness)

    return KindShown(
        KINDS[kind],
        exact_images=int(exact_N.sum()),
        near_images=int((near_N & ~exact_N).sum()),
        exact_groups=exact_groups,
        near_groups=len(groups) - exact_groups,
        groups=[
            Group(
                [shown(int(i)) for i in group[:MEMBERS_SHOWN]], max(0, len(group) - MEMBERS_SHOWN)
            )
            for group in groups[:GROUPS_SHOWN]
        ],
        left=max(0, len(groups) - GROUPS_SHOWN),
    )


def write_csv(path: Path, images: Fingerprints, copies: Copies) -> None:
    """Every image that has a copy, group by group; those with one number under `pixels` are exact.

    `exact_copies` and `near_copies` name the kinds of them (keys of KINDS), separated by blanks.
    """
    found = np.flatnonzero(copies.group_N >= 0)
    with path.open("w", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream, lineterminator="\n")
        rows.writerow(COLUMNS)
        for i in found[np.lexsort((found, images.pixels_N[found], copies.group_N[found]))]:
            kinds = [
                " ".join(key for key, there in zip(KEYS, flag_NK[i], strict=True) if there)
                for flag_NK in (copies.exact_NK, copies.near_NK)
            ]
            best = copies.correlation_NK[i].argmax()
            rows.writerow(
                (
                    copies.group_N[i],
                    images.pixels_N[i],
                    SPLITS[images.split_N[i]],
                    safe_cell(images.class_names[images.label_N[i]]),
                    safe_cell(images.names[i]),
                    images.sha256[i],
                    *kinds,
                    f"{copies.correlation_NK[i, best]:.4f}",
                    int(copies.mirrored_NK[i, best]),
                )
            )
