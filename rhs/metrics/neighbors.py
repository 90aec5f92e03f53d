"""Exact cosine neighbors: every item queries all the others, or the queries query a gallery.

Similarities within ``TIE`` of each other are tied (rhs.metrics.cosine). That is not transitive,
and chains of near-equal values could swallow a whole dense gallery, so a tie group is anchored: its
leader is the highest similarity not yet taken, and everything within ``TIE`` below the leader
belongs to it. Groups depend on the values alone, never on the order of the items.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import faiss
import numpy as np
from tqdm import tqdm

from rhs.errors import UserError
from rhs.metrics.cosine import TIE, searchable, unit_rows
from rhs.metrics.inputs import mask, whole

_QUERY_CHUNK = 4096
_ROW_BUDGET = 1 << 24  # similarities held at once when full rows are needed: 64 MiB of float32
_SPARE = 8  # neighbors fetched beyond k, so that a short tie at the edge needs no full row


@dataclass(frozen=True)
class Ranking:
    """The first columns of the ranked lists of a chunk of queries, tie groups already resolved.

    ``queries`` [Q] int64: which items ask.
    ``similarities`` [Q, L] float32: each tie group carries its leader's value, so equal means tied.
    ``indices`` [Q, L] int64, ordered by (similarity descending, index ascending).
    L is min(k + a few spare, S), S being how many items a query is compared with; the last group of
    a row may go on past column L.
    """

    queries: np.ndarray
    similarities: np.ndarray
    indices: np.ndarray


def neighbors(
    embeddings_ND: np.ndarray,
    k: int,
    queries_N: np.ndarray | None = None,
    *,
    progress: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """The k most cosine-similar other items of every query, exactly.

    Args:
        embeddings_ND: [N, D] finite numbers of any scale. A row of zeros has similarity 0 to all.
        k: how many; more than there are to compare with gives all of them.
        queries_N: bool, True for a query and False for an item of the gallery. None: every item is
            both, and there are N queries, each compared with the N - 1 others.
        progress: show a bar (only on a terminal).

    Returns:
        similarities [Q, k] float32 in [-1, 1], a row for each query, where members of one tie
        group (see the module) share the group's highest value; and indices [Q, k] int64 among the N
        items, ordered by (similarity descending, index ascending). An item is never its own
        neighbor, even when exact copies of it rank beside it.

    Raises:
        UserError: not a matrix, fewer than two rows, NaN or infinity (names the row), k < 1, or no
            query or no gallery.
    """
    k = whole("k", k, least=1)
    unit_ND = unit_rows(embeddings_ND)
    queries_N = mask(queries_N, len(unit_ND))
    if queries_N is not None and (queries_N.all() or not queries_N.any()):
        raise UserError(
            f"There are {queries_N.sum():,} queries and {(~queries_N).sum():,} images of the "
            "gallery; at least one of each is needed."
        )
    return nearest(unit_ND, k, queries_N, progress=progress)


def nearest(
    unit_ND: np.ndarray, k: int, queries_N: np.ndarray | None = None, *, progress: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """`neighbors` of the unit rows that `unit_rows` makes, unchecked: for who has them already."""
    k = min(k, searchable(len(unit_ND), queries_N))
    similarities, indices = [], []
    for ranking in rank(unit_ND, k, queries_N, progress=progress):
        indices_Qk = ranking.indices[:, :k].copy()
        # Where the group of slot k goes on past the list, lower indices may be out of sight.
        for rows, member_RN in open_ties(unit_ND, ranking, k, queries_N):
            listed_s = ranking.similarities[rows]
            starts_R = (listed_s > listed_s[:, -1:]).sum(axis=1)
            for row, start, member_N in zip(rows, starts_R, member_RN, strict=True):
                indices_Qk[row, start:] = np.flatnonzero(member_N)[: k - start]
        similarities.append(ranking.similarities[:, :k])
        indices.append(indices_Qk)
    return np.clip(np.concatenate(similarities), -1.0, 1.0), np.concatenate(indices)


def rank(
    unit_ND: np.ndarray, k: int, queries_N: np.ndarray | None = None, *, progress: bool = False
) -> Iterator[Ranking]:
    """Search with faiss, drop self by index, resolve ties. Needs 1 <= k <= `searchable`.

    Yields one chunk of queries at a time, so that Recall@1000 of 60,000 items stays small.
    """
    everything = np.arange(len(unit_ND))
    asking = everything if queries_N is None else np.flatnonzero(queries_N)
    gallery = everything if queries_N is None else np.flatnonzero(~queries_N)
    fetched = min(k + 1 + _SPARE, len(gallery))
    index = faiss.IndexFlatIP(unit_ND.shape[1])
    index.add(unit_ND[gallery])
    hidden = None if progress else True
    with tqdm(total=len(asking), desc="neighbors", unit="query", disable=hidden) as bar:
        for first in range(0, len(asking), _QUERY_CHUNK):
            queries = asking[first : first + _QUERY_CHUNK]
            similarities, indices = index.search(unit_ND[queries], fetched)
            indices = gallery[indices]
            if queries_N is None:
                keep = indices != queries[:, None]
                # Among many exact copies self may not be fetched at all: then the last one goes.
                keep[keep.all(axis=1), -1] = False
                shape = (len(queries), fetched - 1)
                similarities, indices = (a[keep].reshape(shape) for a in (similarities, indices))
            yield Ranking(queries, *_order_ties(similarities, indices))
            bar.update(len(queries))


def _order_ties(
    similarities_NL: np.ndarray, indices_NL: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Give every member its leader's similarity, then order by (similarity desc, index asc)."""
    leaders_NL = similarities_NL.copy()
    for column in range(1, leaders_NL.shape[1]):
        above_N = leaders_NL[:, column - 1]
        tied_N = leaders_NL[:, column] >= above_N - TIE
        leaders_NL[tied_N, column] = above_N[tied_N]
    order_NL = np.lexsort((indices_NL, -leaders_NL), axis=1)
    return (
        np.take_along_axis(leaders_NL, order_NL, axis=1),
        np.take_along_axis(indices_NL, order_NL, axis=1),
    )


def open_ties(
    unit_ND: np.ndarray, ranking: Ranking, k: int, queries_N: np.ndarray | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The rows of the ranking whose slot k lies in a tie group that reaches past the list.

    Yields (rows [r] of the ranking, membership bool [r, N] in that group), a few rows at a time:
    at most ``_ROW_BUDGET`` similarities exist at once.
    """
    n, length = len(unit_ND), ranking.similarities.shape[1]
    if length == searchable(n, queries_N):
        return
    open_R = np.flatnonzero(ranking.similarities[:, k - 1] == ranking.similarities[:, -1])
    step = max(1, _ROW_BUDGET // n)
    for first in range(0, len(open_R), step):
        rows = open_R[first : first + step]
        listed_s, queries = ranking.similarities[rows], ranking.queries[rows]
        last_r1 = listed_s[:, -1:]
        member_rN = unit_ND[queries] @ unit_ND.T >= last_r1 - TIE
        # The list has already placed its items; this product may round them differently.
        np.put_along_axis(member_rN, ranking.indices[rows], listed_s == last_r1, axis=1)
        if queries_N is None:
            member_rN[np.arange(len(rows)), queries] = False
        else:
            member_rN[:, queries_N] = False
        yield rows, member_rN
