"""Ranks of the relevant items of every query, counted while the gallery streams by.

Recall@K, R-precision and MAP@R ask only where the items of the query's class stand. So nothing is
sorted and no list of neighbors is kept: for each query it is counted how many items of the gallery
lie above certain similarities. Counts of several parts of a gallery add up.

Ties. The relevant items of a query, nearest first, fall into groups: the first one leads, and those
within ``TIE`` below the leader belong to its group; the next one leads the next. Items of other
classes within ``TIE`` of a leader, above or below, are tied with its group: any order of a group
is as good as another.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from rhs.retrieval.gallery import QUERIES, Queries
from rhs.retrieval.vectors import TIE

_RELEVANT = 1 << 21  # similarities of relevant items held at once


class Compared(Protocol):
    """A gallery; see `rhs.retrieval.gallery.Gallery`."""

    def relevant(self, queries: Queries) -> tuple[np.ndarray, np.ndarray]: ...

    def floor(self, queries: Queries, places_Q: np.ndarray) -> np.ndarray: ...

    def above(self, queries: Queries, edges_QE: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True)
class Ranks:
    """Where the relevant items of some queries stand, group by group, nearest first.

    Groups of which no item can be among the first R are left out, but for the first.

    Attributes:
        labels: int64 [Q], of the queries.
        relevant: int64 [Q], how many there are: R, at least 1.
        before: int64 [Q, G], items that stand surely before the group.
        right: int64 [Q, G], relevant items in the group; 0 where there is no such group.
        wrong: int64 [Q, G], items of other classes tied with them.
    """

    labels: np.ndarray
    relevant: np.ndarray
    before: np.ndarray
    right: np.ndarray
    wrong: np.ndarray

    @property
    def right_before(self) -> np.ndarray:
        """Relevant items [Q, G] that stand before the group."""
        return np.cumsum(self.right, axis=1) - self.right


def ranks(chunks: Iterable[Queries], gallery: Compared) -> Iterator[Ranks]:
    """The ranks of each chunk of queries, of which every one has a relevant item."""
    for queries in chunks:
        sims_QM, own_Q = gallery.relevant(queries)
        sims_QM = -np.sort(-sims_QM, axis=1)
        relevant_Q = (sims_QM > -np.inf).sum(axis=1)
        sims_QM = sims_QM[:, : relevant_Q.max()]
        # One place more: the query itself may hold one.
        floor_Q = gallery.floor(queries, relevant_Q + 1)
        edges_QGB, right_QG = _groups(sims_QM)
        # Where R items surely stand above a group, its rank matters to nothing but Recall@K, which
        # asks for the first group alone.
        kept_QG = edges_QGB[:, :, 0] >= floor_Q[:, None]
        kept_QG[:, 0] = True
        kept_QG &= right_QG > 0
        groups = int(kept_QG.sum(axis=1).max())
        edges_QGB, right_QG = edges_QGB[:, :groups], np.where(kept_QG, right_QG, 0)[:, :groups]
        above_QGB = _count(queries, gallery, edges_QGB, kept_QG[:, :groups])
        # Those of the query's own class, and itself, are counted too, and known.
        above_QGB -= own_Q[:, None, None] > edges_QGB
        wrong_QG = above_QGB[:, :, 1] - above_QGB[:, :, 0] - right_QG
        wrong_QG[right_QG == 0] = 0
        before_QG = above_QGB[:, :, 0]
        before_QG[right_QG == 0] = 0
        yield Ranks(queries.labels, relevant_Q, before_QG, right_QG, wrong_QG)


def _groups(sims_QM: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tie groups of the relevant items of each row, which are descending and end in -inf.

    Returns:
        the upper and lower edge [Q, G, 2] of each group, and how many items it has [Q, G].
    """
    leader_QM = sims_QM.copy()
    for column in range(1, leader_QM.shape[1]):
        above_Q = leader_QM[:, column - 1]
        tied_Q = sims_QM[:, column] >= above_Q - TIE
        leader_QM[tied_Q, column] = above_Q[tied_Q]
    first_QM = np.ones(leader_QM.shape, dtype=bool)
    first_QM[:, 1:] = leader_QM[:, 1:] != leader_QM[:, :-1]
    first_QM &= leader_QM > -np.inf
    group_QM = np.cumsum(first_QM, axis=1) - 1
    groups = int(group_QM.max()) + 1
    rows = np.broadcast_to(np.arange(len(sims_QM))[:, None], sims_QM.shape)
    real_QM = sims_QM > -np.inf
    right_QG = np.bincount(
        (rows * groups + group_QM)[real_QM], minlength=len(sims_QM) * groups
    ).reshape(len(sims_QM), groups)
    edges_QGB = np.full((len(sims_QM), groups, 2), -np.inf)
    lead_QG = np.full((len(sims_QM), groups), -np.inf)
    lead_QG[rows[first_QM], group_QM[first_QM]] = leader_QM[first_QM]
    edges_QGB[:, :, 1] = lead_QG - TIE
    edges_QGB[:, :, 0] = lead_QG + TIE
    # What lies between two leaders belongs to the upper one's group first.
    edges_QGB[:, 1:, 0] = np.minimum(edges_QGB[:, 1:, 0], edges_QGB[:, :-1, 1])
    return edges_QGB, right_QG


def _count(
    queries: Queries, gallery: Compared, edges_QGB: np.ndarray, kept_QG: np.ndarray
) -> np.ndarray:
    """How many items of all parts lie above each edge of the groups that are kept [Q, G, 2]."""
    groups = kept_QG.sum(axis=1)
    width = edges_QGB.shape[1] * 2
    # The last edge is to be the last in every row.
    shift_Q = width - 2 * groups
    columns_QE = (np.arange(width)[None, :] - shift_Q[:, None]) % width
    flat_QE = np.where(np.repeat(kept_QG, 2, axis=1), edges_QGB.reshape(len(groups), width), np.inf)
    sent_QE = np.take_along_axis(flat_QE, columns_QE, axis=1)
    counts_QE = gallery.above(queries, sent_QE)
    back_QE = (np.arange(width)[None, :] + shift_Q[:, None]) % width
    return np.take_along_axis(counts_QE, back_QE, axis=1).reshape(edges_QGB.shape)


def in_chunks(rows: np.ndarray, relevant_N: np.ndarray) -> Iterator[np.ndarray]:
    """The items `rows`, ordered by class, in chunks that keep what is held of each small.

    Args:
        relevant_N: how many similarities to relevant items each asks for.
    """
    start = 0
    while start < len(rows):
        some = rows[start : start + QUERIES]
        cells = np.arange(1, len(some) + 1) * np.maximum.accumulate(relevant_N[some])
        end = start + max(1, int((cells <= _RELEVANT).sum()))
        yield rows[start:end]
        start = end
