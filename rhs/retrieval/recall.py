"""Recall@K with fair ties.

Recall@K is the share of queries with at least one item of their class among their K nearest others
(Jegou et al., 2011; Song et al., CVPR 2016). Where similarities tie, any order of the tied items is
as good as another, so a query counts with its expectation over a random order inside each tie
group. Collapsed (constant) embeddings then score exactly chance, whatever the order of the items.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rhs.errors import UserError
from rhs.retrieval.neighbors import Ranking, open_ties, rank, searchable, unit_rows


def recall_at_k(
    embeddings_ND: np.ndarray,
    labels_N: np.ndarray,
    ks: Sequence[int] = (1, 2, 4, 8),
    queries_N: np.ndarray | None = None,
    *,
    progress: bool = False,
) -> dict[str, float]:
    """Recall@K of every item against all the others, or of queries against a gallery, by cosine.

    Args:
        embeddings_ND: [N, D] finite numbers of any scale.
        labels_N: [N] integer class of each row.
        ks: values of K. K beyond the items that a query is compared with counts them all.
        queries_N: bool, True for a query and False for an item of the gallery. None: every item
            queries all the others.
        progress: show a bar (only on a terminal).

    Returns:
        ``{"recall@1": share in [0, 1], ..., "queries": counted, "left_out": not counted}``. A query
        that has no item of its class to be found cannot be answered: it is left out, and stays in
        the gallery of the others.

    Raises:
        UserError: shapes that do not fit, NaN or infinity (names the row), a K below 1, or no query
            that can be answered.
    """
    unit_ND = unit_rows(embeddings_ND)
    labels_N = np.asarray(labels_N)
    if labels_N.shape != (len(unit_ND),):
        raise UserError(
            f"Labels have shape {labels_N.shape} for {len(unit_ND)} embeddings; "
            f"one label per embedding, shape ({len(unit_ND)},), is needed."
        )
    if not ks or min(ks) < 1:
        raise UserError(f"Recall@K was asked for K = {list(ks)}; every K must be at least 1.")
    answerable_N = answerable(labels_N, queries_N)
    if not answerable_N.any():
        raise UserError(
            f"None of the {len(labels_N)} items has another of its class to be found; "
            "Recall@K needs at least one class with two images."
        )
    # A larger K takes every item there is.
    cuts = [min(k, searchable(len(labels_N), queries_N)) for k in ks]
    hits_K = np.zeros(len(cuts))
    for ranking in rank(unit_ND, max(cuts), queries_N, progress=progress):
        hit_QK = _hit_probability(unit_ND, labels_N, ranking, cuts, queries_N)
        hits_K += hit_QK[answerable_N[ranking.queries]].sum(axis=0)
    queries = int(answerable_N.sum())
    scores = {f"recall@{k}": float(hits / queries) for k, hits in zip(ks, hits_K, strict=True)}
    asked = len(labels_N) if queries_N is None else int(queries_N.sum())
    return scores | {"queries": queries, "left_out": asked - queries}


def answerable(labels_N: np.ndarray, queries_N: np.ndarray | None = None) -> np.ndarray:
    """Which items [N] are queries that have an item of their class to be found."""
    if queries_N is not None:
        return queries_N & np.isin(labels_N, labels_N[~queries_N])
    _, class_N, count_C = np.unique(labels_N, return_inverse=True, return_counts=True)
    return count_C[class_N] > 1


def _hit_probability(
    unit_ND: np.ndarray,
    labels_N: np.ndarray,
    ranking: Ranking,
    cuts: Sequence[int],
    queries_N: np.ndarray | None,
) -> np.ndarray:
    """P(at least one right item in the first K slots) [Q, len(cuts)], over random orders of ties.

    Groups before the one that holds slot K lie wholly inside. That one, with t members of which r
    are right and s slots left for it, misses with probability C(t - r, s) / C(t, s).
    """
    similarities_QL = ranking.similarities
    right_QL = labels_N[ranking.indices] == labels_N[ranking.queries][:, None]
    # Size and right members of each row's last group, which may reach past the list.
    last_QL = similarities_QL == similarities_QL[:, -1:]
    last_members_Q, last_right_Q = last_QL.sum(axis=1), (last_QL & right_QL).sum(axis=1)
    for rows, member_rN in open_ties(unit_ND, ranking, max(cuts), queries_N):
        same_rN = labels_N[ranking.queries[rows]][:, None] == labels_N
        last_members_Q[rows] = member_rN.sum(axis=1)
        last_right_Q[rows] = (member_rN & same_rN).sum(axis=1)

    hit_QK = np.empty((len(right_QL), len(cuts)))
    for column, k in enumerate(cuts):
        at_k_Q1 = similarities_QL[:, k - 1 : k]
        before_QL, group_QL = similarities_QL > at_k_Q1, similarities_QL == at_k_Q1
        is_last_Q = last_QL[:, k - 1]
        members_Q = np.where(is_last_Q, last_members_Q, group_QL.sum(axis=1))
        right_Q = np.where(is_last_Q, last_right_Q, (group_QL & right_QL).sum(axis=1))
        miss_Q = _miss(members_Q, right_Q, k - before_QL.sum(axis=1))
        hit_QK[:, column] = np.where((before_QL & right_QL).any(axis=1), 1.0, 1.0 - miss_Q)
    return hit_QK


def _miss(members_Q: np.ndarray, right_Q: np.ndarray, slots_Q: np.ndarray) -> np.ndarray:
    """C(t - r, s) / C(t, s), as the product over i < s of (t - r - i) / (t - i): exact at 0."""
    miss_Q = np.ones(len(members_Q))
    for i in range(int(slots_Q.max())):
        wrong_left_Q = np.maximum(members_Q - right_Q - i, 0)
        factor_Q = wrong_left_Q / np.maximum(members_Q - i, 1)
        miss_Q = np.where(i < slots_Q, miss_Q * factor_Q, miss_Q)
    return miss_Q
