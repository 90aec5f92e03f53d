"""The one exact search of the test images that the gallery, the failures and the explorer share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rhs.metrics.cosine import TIE, answerable, searchable, unit_rows
from rhs.metrics.neighbors import nearest

_BUDGET = 1 << 24  # similarities held at once where whole rows are needed: 64 MiB of float32


@dataclass(frozen=True)
class RetrievalResults:
    """What every query found. N images, Q of them queries, k neighbors of each.

    Attributes:
        unit_ND: the embeddings, normalized; float32 [N, D].
        labels_N: the images' classes.
        queries_N: bool, a query or of the gallery; None: every image is both.
        asking_Q: the queries, indices among the N images, ascending.
        similarities_Qk, indices_Qk: the nearest others, as `rhs.metrics.neighbors` gives them;
            k is 0 where there is nothing to compare with.
        right_s_Q, right_i_Q: similarity and index of the nearest of the query's own class; -inf and
            -1 where there is none.
        hit_Q: chance that the nearest neighbor is right, over random orders of those that tie with
            it; NaN where the query has no answer.
    """

    unit_ND: np.ndarray
    labels_N: np.ndarray
    queries_N: np.ndarray | None
    asking_Q: np.ndarray
    similarities_Qk: np.ndarray
    indices_Qk: np.ndarray
    right_s_Q: np.ndarray
    right_i_Q: np.ndarray
    hit_Q: np.ndarray

    @property
    def answerable_Q(self) -> np.ndarray:
        return ~np.isnan(self.hit_Q)

    @property
    def failing_Q(self) -> np.ndarray:
        """Queries whose nearest neighbor is of another class. A tie with a right one is none:
        another order of the same similarities would have been right."""
        return self.hit_Q == 0

    @property
    def recall(self) -> float | None:
        """Recall@1; None where no query has an answer."""
        hits = self.hit_Q[self.answerable_Q]
        return float(hits.mean()) if len(hits) else None

    def ranks(self, rows: np.ndarray) -> np.ndarray:
        """The place, from 1, of the nearest right one of these queries [R], which all have one.

        Those that tie with it do not count as nearer.
        """
        gallery = None if self.queries_N is None else np.flatnonzero(~self.queries_N)
        searched = self.unit_ND if gallery is None else self.unit_ND[gallery]
        rank_R = np.ones(len(rows), dtype=np.int64)
        step = max(1, _BUDGET // max(1, len(searched)))
        for first in range(0, len(rows), step):
            some = rows[first : first + step]
            asking = self.asking_Q[some]
            nearer_rN = self.unit_ND[asking] @ searched.T > self.right_s_Q[some, None] + TIE
            if gallery is None:
                nearer_rN[np.arange(len(some)), asking] = False
            rank_R[first : first + step] += nearer_rN.sum(axis=1)
        # Another product may round a near-tie otherwise; a failure is never the first.
        return np.maximum(rank_R, np.where(self.failing_Q[rows], 2, 1))


def search(
    embeddings_ND: np.ndarray, labels_N: np.ndarray, queries_N: np.ndarray | None, k: int
) -> RetrievalResults:
    """Every query's k nearest others, exactly; none where there is nothing to compare with.

    Args:
        queries_N: bool, True for a query and False for an image of the gallery; None: every image
            queries all the others.

    Raises:
        UserError: embeddings that are no matrix, or hold NaN or infinity (names the row).
    """
    everything = np.arange(len(labels_N))
    asking = everything if queries_N is None else everything[queries_N]
    if len(labels_N) < 2 or not len(asking) or searchable(len(labels_N), queries_N) < 1:
        unit_ND = np.zeros(np.shape(embeddings_ND), dtype=np.float32)
        similarities_Qk = np.zeros((len(asking), 0), dtype=np.float32)
        indices_Qk = np.zeros((len(asking), 0), dtype=np.int64)
    else:
        unit_ND = unit_rows(embeddings_ND)
        similarities_Qk, indices_Qk = nearest(unit_ND, k, queries_N)
    right_s_N, right_i_N = _nearest_right(unit_ND, labels_N, queries_N)
    hit_Q = _hits(unit_ND, labels_N, queries_N, asking, similarities_Qk, indices_Qk)
    hit_Q[~answerable(labels_N, queries_N)[asking]] = np.nan
    found = (similarities_Qk, indices_Qk, right_s_N[asking], right_i_N[asking], hit_Q)
    return RetrievalResults(unit_ND, labels_N, queries_N, asking, *found)


def _hits(
    unit_ND: np.ndarray,
    labels_N: np.ndarray,
    queries_N: np.ndarray | None,
    asking_Q: np.ndarray,
    similarities_Qk: np.ndarray,
    indices_Qk: np.ndarray,
) -> np.ndarray:
    """Share [Q] of right ones among those that tie for the first place."""
    if not similarities_Qk.shape[1]:
        return np.zeros(len(asking_Q))
    first_Qk = similarities_Qk == similarities_Qk[:, :1]
    right_Qk = labels_N[indices_Qk] == labels_N[asking_Q][:, None]
    hit_Q = (first_Qk & right_Qk).sum(axis=1) / first_Qk.sum(axis=1)
    if similarities_Qk.shape[1] < searchable(len(labels_N), queries_N):
        open_R = np.flatnonzero(first_Qk.all(axis=1))  # the tie may go on past the list
        step = max(1, _BUDGET // len(labels_N))
        for rows in np.split(open_R, np.arange(step, len(open_R), step)):
            asking_R = asking_Q[rows]
            tied_RN = unit_ND[asking_R] @ unit_ND.T >= similarities_Qk[rows, :1] - TIE
            np.put_along_axis(tied_RN, indices_Qk[rows], True, axis=1)
            if queries_N is None:
                tied_RN[np.arange(len(rows)), asking_R] = False
            else:
                tied_RN[:, queries_N] = False
            right_RN = tied_RN & (labels_N == labels_N[asking_R][:, None])
            hit_Q[rows] = right_RN.sum(axis=1) / np.maximum(tied_RN.sum(axis=1), 1)
    return hit_Q


def _nearest_right(
    unit_ND: np.ndarray, labels_N: np.ndarray, queries_N: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Similarity [N] and index [N] of every item's nearest of its class; -inf where it has none."""
    best_s = np.full(len(labels_N), -np.inf, dtype=np.float32)
    best_i = np.full(len(labels_N), -1, dtype=np.int64)
    order = np.argsort(labels_N, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(labels_N[order])) + 1):
        if len(members) < 2:
            continue
        step = max(1, _BUDGET // len(members))
        for first in range(0, len(members), step):
            some = members[first : first + step]
            within = unit_ND[some] @ unit_ND[members].T
            if queries_N is None:
                within[np.arange(len(some)), first + np.arange(len(some))] = -np.inf
            else:
                within[:, queries_N[members]] = -np.inf
            best = within.argmax(axis=1)
            best_s[some] = within[np.arange(len(some)), best]
            best_i[some] = np.where(np.isfinite(best_s[some]), members[best], -1)
    return best_s, best_i
