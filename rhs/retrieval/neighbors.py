"""Exact cosine neighbors: every item queries all the others.

What counts as a tie. Two float32 dot products of the *same* pair of unit vectors can differ in the
last bits, because BLAS sums in another order for another block shape, and the embeddings themselves
already carry the network's float32 rounding (a few 1e-7). A difference below ``TIE`` = 1e-6 is
therefore not information. "Within 1e-6" is not transitive, and chains of near-equal values could
swallow a whole dense gallery, so a tie group is anchored: its leader is the highest similarity not
yet taken, and everything within ``TIE`` below the leader belongs to it. Groups depend on the values
alone, never on the order of the items.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import faiss
import numpy as np
from tqdm import tqdm

from rhs.errors import UserError

TIE = 1e-6
_QUERY_CHUNK = 4096
_ROW_BUDGET = 1 << 24  # similarities held at once when full rows are needed: 64 MiB of float32
_SPARE = 8  # neighbors fetched beyond k, so that a short tie at the edge needs no full row


@dataclass(frozen=True)
class Ranking:
    """The first columns of the ranked lists of a chunk of queries, tie groups already resolved.

    ``queries`` [Q] int64: which items ask.
    ``similarities`` [Q, L] float32: each tie group carries its leader's value, so equal means tied.
    ``indices`` [Q, L] int64, ordered by (similarity descending, index ascending).
    L is min(k + a few spare, N - 1); the last group of a row may go on past column L.
    """

    queries: np.ndarray
    similarities: np.ndarray
    indices: np.ndarray


def neighbors(
    embeddings_ND: np.ndarray, k: int, *, progress: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """The k most cosine-similar other items of every item, exactly.

    Args:
        embeddings_ND: [N, D] finite numbers of any scale. A row of zeros has similarity 0 to all.
        k: how many; more than there are others gives all N - 1 of them.
        progress: show a bar (only on a terminal).

    Returns:
        similarities [N, min(k, N-1)] float32 in [-1, 1], where members of one tie group (see the
        module) share the group's highest value; and indices [N, min(k, N-1)] int64, ordered by
        (similarity descending, index ascending). An item is never its own neighbor, even when
        exact copies of it rank beside it.

    Raises:
        UserError: not a matrix, fewer than two rows, NaN or infinity (names the row), or k < 1.
    """
    unit_ND = unit_rows(embeddings_ND)
    if k < 1:
        raise UserError(f"k is {k}; the number of neighbors must be at least 1.")
    k = min(k, len(unit_ND) - 1)
    similarities_Nk = np.empty((len(unit_ND), k), dtype=np.float32)
    indices_Nk = np.empty((len(unit_ND), k), dtype=np.int64)
    for ranking in rank(unit_ND, k, progress=progress):
        similarities_Nk[ranking.queries] = ranking.similarities[:, :k]
        indices_Nk[ranking.queries] = ranking.indices[:, :k]
        # Where the group of slot k goes on past the list, lower indices may be out of sight.
        for rows, member_RN in open_ties(unit_ND, ranking, k):
            listed_s = ranking.similarities[rows]
            starts_R = (listed_s > listed_s[:, -1:]).sum(axis=1)
            for query, start, member_N in zip(
                ranking.queries[rows], starts_R, member_RN, strict=True
            ):
                indices_Nk[query, start:] = np.flatnonzero(member_N)[: k - start]
    return np.clip(similarities_Nk, -1.0, 1.0), indices_Nk


def unit_rows(embeddings_ND: np.ndarray) -> np.ndarray:
    """Checked, L2-normalized, C-ordered float32 copy [N, D]; zero rows stay zero."""
    embeddings_ND = np.asarray(embeddings_ND)
    if embeddings_ND.ndim != 2 or 0 in embeddings_ND.shape:
        raise UserError(f"Embeddings have shape {embeddings_ND.shape}; a matrix [N, D] is needed.")
    if len(embeddings_ND) < 2:
        raise UserError("There is only 1 embedding; retrieval needs at least 2.")
    finite_N = np.isfinite(embeddings_ND).all(axis=1)
    if not finite_N.all():
        bad = np.flatnonzero(~finite_N)
        more = f" (and {len(bad) - 1:,} more)" if len(bad) > 1 else ""
        raise UserError(
            f"Embedding row {bad[0]}{more} holds NaN or infinity; every value must be finite."
        )
    # In float64: the squares of large float32 activations overflow, those of small ones vanish.
    wide_ND = embeddings_ND.astype(np.float64)
    wide_ND /= np.maximum(np.abs(wide_ND).max(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    norms_N1 = np.linalg.norm(wide_ND, axis=1, keepdims=True)
    return np.ascontiguousarray(wide_ND / np.where(norms_N1 > 0, norms_N1, 1.0), dtype=np.float32)


def rank(unit_ND: np.ndarray, k: int, *, progress: bool = False) -> Iterator[Ranking]:
    """Search with faiss, drop self by index, resolve ties. Needs 1 <= k <= N - 1.

    Yields one chunk of queries at a time, so that Recall@1000 of 60,000 items stays small.
    """
    n = len(unit_ND)
    fetched = min(k + 1 + _SPARE, n)
    index = faiss.IndexFlatIP(unit_ND.shape[1])
    index.add(unit_ND)
    with tqdm(total=n, desc="neighbors", unit="query", disable=None if progress else True) as bar:
        for first in range(0, n, _QUERY_CHUNK):
            queries = np.arange(first, min(first + _QUERY_CHUNK, n))
            similarities, indices = index.search(unit_ND[queries], fetched)
            keep = indices != queries[:, None]
            # Among many exact copies self may not be fetched at all: then the last one goes.
            keep[keep.all(axis=1), -1] = False
            shape = (len(queries), fetched - 1)
            yield Ranking(
                queries,
                *_order_ties(similarities[keep].reshape(shape), indices[keep].reshape(shape)),
            )
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
    unit_ND: np.ndarray, ranking: Ranking, k: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The rows of the ranking whose slot k lies in a tie group that reaches past the list.

    Yields (rows [r] of the ranking, membership bool [r, N] in that group), a few rows at a time:
    at most ``_ROW_BUDGET`` similarities exist at once.
    """
    n, length = len(unit_ND), ranking.similarities.shape[1]
    if length == n - 1:
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
        member_rN[np.arange(len(rows)), queries] = False
        yield rows, member_rN
