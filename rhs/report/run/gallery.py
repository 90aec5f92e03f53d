"""What retrieval looks like: random queries with their neighbors, and the worst failures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rhs.metrics.retrieval_results import RetrievalResults
from rhs.report.pictures import Images, Picture, picture


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


def random_queries(
    images: Images, found: RetrievalResults, *, count: int, k: int, seed: int
) -> list[Retrieved]:
    """``count`` seeded draws among the queries that have an answer, each with its k nearest."""
    candidates = np.flatnonzero(found.answerable_Q)
    if not len(candidates):
        return []
    # Over the images' own numbers, so that the draw does not depend on who else asks.
    drawn = np.random.default_rng(seed).permutation(found.asking_Q[candidates])[:count]
    rows = np.searchsorted(found.asking_Q, drawn)
    labels_N = found.labels_N
    return [
        Retrieved(
            picture(images, query),
            [
                picture(images, i, float(similarity), bool(labels_N[i] == labels_N[query]))
                for i, similarity in zip(
                    found.indices_Qk[row, :k], found.similarities_Qk[row, :k], strict=True
                )
            ],
        )
        for query, row in zip(drawn, rows, strict=True)
    ]


def worst_failures(
    images: Images, found: RetrievalResults, *, count: int
) -> tuple[list[Failure], int]:
    """The ``count`` failures with the largest gap, largest first, and how many there are in all."""
    failing = np.flatnonzero(found.failing_Q)
    if not len(failing):
        return [], 0
    gap_F = found.similarities_Qk[failing, 0] - found.right_s_Q[failing]
    order = np.argsort(-gap_F, kind="stable")[:count]
    worst = failing[order]
    rows = [
        Failure(
            query=picture(images, found.asking_Q[row]),
            wrong=picture(
                images, found.indices_Qk[row, 0], float(found.similarities_Qk[row, 0]), False
            ),
            right=picture(images, found.right_i_Q[row], float(found.right_s_Q[row]), True),
            gap=float(gap),
            rank=int(rank),
        )
        for row, gap, rank in zip(worst, gap_F[order], found.ranks(worst), strict=True)
    ]
    return rows, len(failing)
