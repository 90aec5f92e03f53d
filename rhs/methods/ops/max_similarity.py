"""The largest similarity over many combinations of points that are all made of two sets of points.

With four roles of N pairs there are 16 matrices [N, N] to take the maximum over. Points that are
weighted sums of an anchor and a positive need no products of their own: those of the originals, up
to three, give all of them.
"""

from typing import Any, NamedTuple

import torch
from torch.autograd.function import once_differentiable

A, P = 0, 1
TILE = 2**17  # entries of a matrix that are worked on at a time: they stay in a processor's cache


def largest(
    a_ND: torch.Tensor,
    p_ND: torch.Tensor,
    rows_K2N: torch.Tensor,
    columns_K2N: torch.Tensor,
    terms: list[list[tuple[int, int]]],
    offsets_K2N: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest over k of u_i . v_j, plus offsets, for each i and j.

    Args:
        a_ND, p_ND: anchors and positives.
        rows_K2N: u_i = rows[k, 0, i] a_i + rows[k, 1, i] p_i.
        columns_K2N: v_j, the same way.
        terms: for each k the products, of a or p in the row with a or p in the column, that it is
            made of (0 is a, 1 is p): a share that is not there costs nothing.
        offsets_K2N: [k, 0, i] and [k, 1, j] are added.

    Returns:
        (the largest [N, N], the k that it came from [N, N]); its gradient goes to that combination,
        the first among equals.
    """
    return _Largest.apply(a_ND, p_ND, rows_K2N, columns_K2N, offsets_K2N, terms)


class _Shares(NamedTuple):
    """Of anchors and positives, in rows and in columns; see `largest`."""

    rows_K2N: torch.Tensor
    columns_K2N: torch.Tensor
    offsets_K2N: torch.Tensor | None


class _Largest(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        a_ND: torch.Tensor,
        p_ND: torch.Tensor,
        rows: torch.Tensor,
        columns: torch.Tensor,
        *more: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        offsets, used = more
        shares = _Shares(rows, columns, offsets)
        needed = {term for terms in used for term in terms}
        dots = {(A, A): a_ND @ a_ND.T} if (A, A) in needed else {}
        if {(A, P), (P, A)} & needed:
            dots[A, P] = a_ND @ p_ND.T
        if (P, A) in needed:
            dots[P, A] = dots[A, P].T.contiguous()
        if (P, P) in needed:
            dots[P, P] = p_ND @ p_ND.T
        best_NN = a_ND.new_full((len(a_ND), len(a_ND)), -torch.inf)
        which_NN = torch.zeros_like(best_NN, dtype=torch.uint8)
        for tile in _tiles(len(a_ND)):
            best, which = best_NN[tile], which_NN[tile]
            for k, terms in enumerate(used):
                made = _candidate(k, terms, tile, dots, shares)
                which.masked_fill_(made > best, k)
                torch.maximum(best, made, out=best)
        ctx.used, ctx.terms, ctx.has_offsets = used, list(dots), offsets is not None
        ctx.save_for_backward(a_ND, p_ND, rows, columns, which_NN, *dots.values())
        ctx.mark_non_differentiable(which_NN)
        return best_NN, which_NN

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_NN: torch.Tensor, _: None) -> tuple:
        a_ND, p_ND, rows, columns, which_NN, *values = ctx.saved_tensors
        dots = dict(zip(ctx.terms, values, strict=True))
        by_dots = {term: torch.zeros_like(value) for term, value in dots.items()}
        by_rows, by_columns = torch.zeros_like(rows), torch.zeros_like(columns)
        by_offsets = torch.zeros_like(rows) if ctx.has_offsets else None
        for tile in _tiles(len(a_ND)):
            for k, terms in enumerate(ctx.used):
                won = torch.where(which_NN[tile] == k, g_NN[tile], 0.0)
                if by_offsets is not None:
                    by_offsets[k, 0, tile] = won.sum(1)
                    by_offsets[k, 1] += won.sum(0)
                for r, c in terms:
                    row, column = rows[k, r, tile], columns[k, c]
                    by_dots[r, c][tile].addcmul_(won * row[:, None], column)
                    share = won * dots[r, c][tile]
                    by_rows[k, r, tile] += share @ column
                    by_columns[k, c] += row @ share
        by_a, by_p = _of_points(a_ND, p_ND, by_dots)
        return by_a, by_p, by_rows, by_columns, by_offsets, None


def _tiles(n: int) -> list[slice]:
    step = max(1, TILE // max(1, n))
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]


def _candidate(
    k: int,
    terms: list[tuple[int, int]],
    tile: slice,
    dots: dict[tuple[int, int], torch.Tensor],
    shares: _Shares,
) -> torch.Tensor:
    """Combination k of some rows [tile, N]."""
    rows, columns, offsets = shares
    made = None
    for r, c in terms:
        part = dots[r, c][tile] * columns[k, c]
        row = rows[k, r, tile, None]
        made = part.mul_(row) if made is None else made.addcmul_(part, row)
    assert made is not None, "a combination of nothing"
    if offsets is not None:
        made.add_(offsets[k, 0, tile, None]).add_(offsets[k, 1])
    return made


def _of_points(
    a_ND: torch.Tensor, p_ND: torch.Tensor, by_dots: dict[tuple[int, int], torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The slopes by the points, from those by their dot products."""
    by_a, by_p = torch.zeros_like(a_ND), torch.zeros_like(p_ND)
    if (A, A) in by_dots:
        by_a.addmm_(by_dots[A, A] + by_dots[A, A].T, a_ND)
    if (P, P) in by_dots:
        by_p.addmm_(by_dots[P, P] + by_dots[P, P].T, p_ND)
    if (A, P) in by_dots:
        cross = by_dots[A, P]
        if (P, A) in by_dots:
            cross = cross + by_dots[P, A].T
        by_a.addmm_(cross, p_ND)
        by_p.addmm_(cross.T, a_ND)
    return by_a, by_p
