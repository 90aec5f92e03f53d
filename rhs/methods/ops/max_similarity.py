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


class PointShares(NamedTuple):
    """Of anchors and positives, in rows and in columns; see `largest`."""

    rows_K2N: torch.Tensor
    columns_K2N: torch.Tensor
    offsets_K2N: torch.Tensor | None


def largest(
    a_ND: torch.Tensor,
    p_ND: torch.Tensor,
    shares: PointShares,
    terms: list[list[tuple[int, int]]],
    own: slice = slice(None),
) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest over k of u_i . v_j, plus offsets, for each i of `own` and each j.

    Args:
        a_ND, p_ND: anchors and positives.
        shares: u_i = rows[k, 0, i] a_i + rows[k, 1, i] p_i, and v_j by the columns the same way;
            offsets [k, 0, i] and [k, 1, j] are added.
        terms: for each k the products, of a or p in the row with a or p in the column, that it is
            made of (0 is a, 1 is p): a share that is not there costs nothing.
        own: the rows i that are wanted, R of N.

    Returns:
        (the largest [R, N], the k that it came from [R, N]); its gradient goes to that combination,
        the first among equals.
    """
    return _Largest.apply(a_ND, p_ND, *shares, terms, own)


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
        offsets, used, own = more
        points = (a_ND, p_ND)
        dots: dict[tuple[int, int], torch.Tensor] = {}
        for r, c in sorted({term for terms in used for term in terms}):
            turned = dots.get((c, r)) if r != c and len(a_ND[own]) == len(a_ND) else None
            dots[r, c] = points[r][own] @ points[c].T if turned is None else turned.T.contiguous()
        shares = PointShares(rows[:, :, own], columns, offsets)
        best_RN = a_ND.new_full((len(a_ND[own]), len(a_ND)), -torch.inf)
        which_RN = torch.zeros_like(best_RN, dtype=torch.uint8)
        for tile in _tiles(*best_RN.shape):
            best, which = best_RN[tile], which_RN[tile]
            for k, terms in enumerate(used):
                made = _candidate(k, terms, tile, dots, shares)
                if offsets is not None:
                    made.add_(offsets[k, 0, own][tile, None]).add_(offsets[k, 1])
                which.masked_fill_(made > best, k)
                torch.maximum(best, made, out=best)
        ctx.used, ctx.terms, ctx.has_offsets, ctx.own = used, list(dots), offsets is not None, own
        ctx.save_for_backward(a_ND, p_ND, rows, columns, which_RN, *dots.values())
        ctx.mark_non_differentiable(which_RN)
        return best_RN, which_RN

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_RN: torch.Tensor, _: None) -> tuple:
        a_ND, p_ND, rows, columns, which_RN, *values = ctx.saved_tensors
        dots = dict(zip(ctx.terms, values, strict=True))
        by_dots = {term: torch.zeros_like(value) for term, value in dots.items()}
        by_rows, by_columns = torch.zeros_like(rows), torch.zeros_like(columns)
        by_offsets = torch.zeros_like(rows) if ctx.has_offsets else None
        own_rows, by_own = rows[:, :, ctx.own], by_rows[:, :, ctx.own]
        for tile in _tiles(*which_RN.shape):
            for k, terms in enumerate(ctx.used):
                won = torch.where(which_RN[tile] == k, g_RN[tile], 0.0)
                if by_offsets is not None:
                    by_offsets[k, 0, ctx.own][tile] = won.sum(1)
                    by_offsets[k, 1] += won.sum(0)
                for r, c in terms:
                    row, column = own_rows[k, r, tile], columns[k, c]
                    by_dots[r, c][tile].addcmul_(won * row[:, None], column)
                    share = won * dots[r, c][tile]
                    by_own[k, r, tile] += share @ column
                    by_columns[k, c] += row @ share
        by_a, by_p = _of_points((a_ND, p_ND), by_dots, ctx.own)
        return by_a, by_p, by_rows, by_columns, by_offsets, None, None


def _tiles(rows: int, columns: int) -> list[slice]:
    step = max(1, TILE // max(1, columns))
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]


def _candidate(
    k: int,
    terms: list[tuple[int, int]],
    tile: slice,
    dots: dict[tuple[int, int], torch.Tensor],
    shares: PointShares,
) -> torch.Tensor:
    """Combination k of some rows [tile, N], without offsets."""
    made = None
    for r, c in terms:
        part = dots[r, c][tile] * shares.columns_K2N[k, c]
        row = shares.rows_K2N[k, r, tile, None]
        made = part.mul_(row) if made is None else made.addcmul_(part, row)
    assert made is not None, "a combination of nothing"
    return made


def _of_points(
    points: tuple[torch.Tensor, torch.Tensor],
    by_dots: dict[tuple[int, int], torch.Tensor],
    own: slice,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The slopes by the points, from those by their dot products."""
    by = (torch.zeros_like(points[A]), torch.zeros_like(points[P]))
    if len(points[A][own]) == len(points[A]):  # all rows: half of the products are others turned
        by_dots = dict(by_dots)
        if (P, A) in by_dots and (A, P) in by_dots:
            by_dots[A, P] = by_dots[A, P] + by_dots.pop((P, A)).T
        for z in (A, P):
            if (z, z) in by_dots:
                turned = by_dots.pop((z, z))
                by[z].addmm_(turned + turned.T, points[z])
    for (r, c), slope in by_dots.items():
        by[r][own].addmm_(slope, points[c])
        by[c].addmm_(slope.T, points[r][own])
    return by
