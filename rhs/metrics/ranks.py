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

from rhs.metrics.cosine import TIE
from rhs.metrics.gallery import QUERIES, Queries

_RELEVANT = 1 << 19  # similarities of relevant items held at once


class GalleryLike(Protocol):
    """A gallery; see `rhs.metrics.gallery.Gallery`."""

    def relevant(self, queries: Queries) -> tuple[np.ndarray, np.ndarray]: ...

    def floor(self, queries: Queries, places_Q: np.ndarray) -> np.ndarray: ...

    def above(self, queries: Queries, edges_QE: np.ndarray) -> tuple[np.ndarray, np.ndarray]: ...

    def above_in_full(self, queries: Queries, edges_QE: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True)
class Ranks:
    """Where the relevant items of some queries stand, group by group, nearest first.

    Groups of which no item can be among the first R are left out, but for the first.

    Attributes:
        ids, labels: int64 [Q], of the queries.
        relevant: int64 [Q], how many there are: R, at least 1.
        before: int64 [Q, G], items that stand surely before the group.
        right: int64 [Q, G], relevant items in the group; 0 where there is no such group.
        wrong: int64 [Q, G], items of other classes tied with them.
    """

    ids: np.ndarray
    labels: np.ndarray
    relevant: np.ndarray
    before: np.ndarray
    right: np.ndarray
    wrong: np.ndarray

    @property
    def right_before(self) -> np.ndarray:
        """Relevant items [Q, G] that stand before the group."""
        return np.cumsum(self.right, axis=1) - self.right


def ranks(chunks: Iterable[Queries], gallery: GalleryLike) -> Iterator[Ranks]:
    """The ranks of each chunk of queries, of which every one has a relevant item.

    Queries that have very many items above their edges wait for one another: whole rows of
    similarities cost less for many queries at a time.
    """
    waiting: list[_QueryEdges] = []
    for queries in chunks:
        asked = _ask(queries, gallery)
        counts_QE, many_Q = gallery.above(queries, asked.edges())
        if not many_Q.all():
            yield asked.some(~many_Q).ranks(counts_QE[~many_Q])
        if not many_Q.any():
            continue
        late = asked.some(many_Q)
        if waiting and not _fit([*waiting, late]):
            yield _in_full(waiting, gallery)
            waiting = []
        waiting.append(late)
    if waiting:
        yield _in_full(waiting, gallery)


def _fit(waiting: list[_QueryEdges]) -> bool:
    """Whether they are not too many for one time."""
    queries = sum(len(asked.relevant) for asked in waiting)
    groups = max(asked.right.shape[1] for asked in waiting)
    return queries <= QUERIES and queries * groups <= _RELEVANT


@dataclass(frozen=True)
class _QueryEdges:
    """Queries, and the edges of the groups whose ranks are wanted.

    Attributes:
        relevant: int64 [Q].
        own: float64 [Q], the similarity of each query to itself; -inf where it is not compared.
        borders: float64 [Q, G, 2], upper and lower edge of each group.
        right: int64 [Q, G], its items; 0 where there is no such group.
    """

    queries: Queries
    relevant: np.ndarray
    own: np.ndarray
    borders: np.ndarray
    right: np.ndarray

    def some(self, rows_Q: np.ndarray) -> _QueryEdges:
        """Those of some queries."""
        groups = max(1, int((self.right[rows_Q] > 0).sum(axis=1).max(initial=0)))
        queries = Queries(
            self.queries.unit[rows_Q], self.queries.labels[rows_Q], self.queries.ids[rows_Q]
        )
        borders, right = self.borders[rows_Q, :groups], self.right[rows_Q, :groups]
        return _QueryEdges(queries, self.relevant[rows_Q], self.own[rows_Q], borders, right)

    def edges(self) -> np.ndarray:
        """The edges [Q, 2 G], descending, the last one last in every row; +inf fills up."""
        kept_QE = np.repeat(self.right > 0, 2, axis=1)
        flat_QE = np.where(kept_QE, self.borders.reshape(kept_QE.shape), np.inf)
        return np.take_along_axis(flat_QE, self._columns(-1), axis=1)

    def ranks(self, counts_QE: np.ndarray) -> Ranks:
        """What the counts above `edges` amount to."""
        width = self.borders.shape[1] * 2
        counts_QE = np.take_along_axis(counts_QE[:, -width:], self._columns(1), axis=1)
        above_QGB = counts_QE.reshape(self.borders.shape)
        # Those of the query's own class, and itself, are counted too, and known.
        above_QGB = above_QGB - (self.own[:, None, None] > self.borders)
        wrong_QG = above_QGB[:, :, 1] - above_QGB[:, :, 0] - self.right
        there_QG = self.right > 0
        return Ranks(
            self.queries.ids,
            self.queries.labels,
            self.relevant,
            np.where(there_QG, above_QGB[:, :, 0], 0),
            self.right,
            np.where(there_QG, np.maximum(wrong_QG, 0), 0),  # -1: a tie decided by the last bit
        )

    def _columns(self, sign: int) -> np.ndarray:
        """Where each edge goes, when those of every row move to its end (-1), or back (1)."""
        width = self.right.shape[1] * 2
        shift_Q = width - 2 * (self.right > 0).sum(axis=1)
        return (np.arange(width)[None, :] + sign * shift_Q[:, None]) % width


def _ask(queries: Queries, gallery: GalleryLike) -> _QueryEdges:
    """Find out which edges matter."""
    sims_QM, own_Q = gallery.relevant(queries)
    sims_QM = -np.sort(-sims_QM, axis=1)
    relevant_Q = (sims_QM > -np.inf).sum(axis=1)
    # One place more: the query itself may hold one.
    floor_Q = gallery.floor(queries, relevant_Q + 1)
    borders_QGB, right_QG = _groups(sims_QM[:, : relevant_Q.max()])
    # Where R items surely stand above a group, its rank matters to nothing but Recall@K, which asks
    # for the first group alone.
    kept_QG = borders_QGB[:, :, 0] >= floor_Q[:, None]
    kept_QG[:, 0] = True
    right_QG = np.where(kept_QG, right_QG, 0)
    return _QueryEdges(queries, relevant_Q, own_Q, borders_QGB, right_QG).some(
        np.arange(len(own_Q))
    )


def _in_full(waiting: list[_QueryEdges], gallery: GalleryLike) -> Ranks:
    """The ranks of queries that have waited, by whole rows of similarities."""
    groups = max(asked.right.shape[1] for asked in waiting)
    missing = [(0, groups - asked.right.shape[1]) for asked in waiting]
    borders = [
        np.pad(a.borders, ((0, 0), m, (0, 0))) for a, m in zip(waiting, missing, strict=True)
    ]
    right = [np.pad(a.right, ((0, 0), m)) for a, m in zip(waiting, missing, strict=True)]
    fields = ("unit", "labels", "ids")
    parts = [np.concatenate([getattr(a.queries, field) for a in waiting]) for field in fields]
    together = _QueryEdges(
        Queries(*parts),
        np.concatenate([asked.relevant for asked in waiting]),
        np.concatenate([asked.own for asked in waiting]),
        np.concatenate(borders),
        np.concatenate(right),
    )
    return together.ranks(gallery.above_in_full(together.queries, together.edges()))


def _groups(sims_QM: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tie groups of the relevant items of each row, which are descending and end in -inf.

    Returns:
        the upper and lower edge [Q, G, 2] of each group, and how many items it has [Q, G].
    """
    leader_QM = sims_QM.copy()
    near_QM = sims_QM[:, 1:] >= sims_QM[:, :-1] - TIE
    for column in np.flatnonzero((near_QM & (sims_QM[:, 1:] > -np.inf)).any(axis=0)) + 1:
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
