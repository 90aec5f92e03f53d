"""Counting how many items exceed the edges of each query, from products that are not exact.

``edges_QE``, float64, descend in every row; a row with fewer than E has +inf in front. All counts
are int64 [Q, E].
"""

from __future__ import annotations

import torch

from rhs.metrics.bounded_products import exact_dots, full_float32, pair_dots, rounding

STRIDE = 16  # columns that share one look: most hold nothing that a query asks for
_PAIRS = 1 << 18  # settled at a time
_UNDECIDED = 1 / 256  # of a row's items may be; else the row is computed in float64
_LANES = 8 * 128  # entries whose bytes are added as one
_CELLS = 1 << 20  # edges gathered at a time


def fold(block_QG: torch.Tensor) -> torch.Tensor:
    """The block [Q, G] as [Q, STRIDE, G // STRIDE], without its last few columns."""
    width = block_QG.shape[1] // STRIDE
    return block_QG[:, : width * STRIDE].unflatten(1, (STRIDE, width))


def exceeding(
    block_QG: torch.Tensor, best_QW: torch.Tensor, limit_Q1: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows [P] and columns [P] of the entries above their row's limit.

    Args:
        best_QW: the largest of each column of the folded block.
    """
    folded_QSW = fold(block_QG)
    width = folded_QSW.shape[2]
    row_H, column_H = (best_QW > limit_Q1).nonzero(as_tuple=True)
    hit, place = (folded_QSW[row_H, :, column_H] > limit_Q1[row_H]).nonzero(as_tuple=True)
    rest = block_QG[:, width * STRIDE :] > limit_Q1
    rest_row, rest_column = rest.nonzero(as_tuple=True)
    rows = torch.cat([row_H[hit], rest_row])
    return rows, torch.cat([place * width + column_H[hit], rest_column + width * STRIDE])


def count_pairs(
    unit_QD: torch.Tensor,
    row_P: torch.Tensor,
    unit_GD: torch.Tensor,
    item_P: torch.Tensor,
    edges_QE: torch.Tensor,
) -> torch.Tensor:
    """Counts over pairs of a query and an item, among which are all that exceed any edge.

    In float32; those near an edge in float64.
    """
    queries, edges = edges_QE.shape
    near = rounding(unit_QD.shape[1])
    counts_QE = torch.zeros_like(edges_QE, dtype=torch.int64)
    # All rows' edges as one ascending list: eight apart, so that rows do not meet.
    rising_QE = edges_QE.flip(1).contiguous()
    offset_Q1 = 8.0 * torch.arange(queries, device=edges_QE.device)[:, None]
    flat = (rising_QE.clamp(-3, 3) + offset_Q1).flatten()
    for rows, items in zip(row_P.split(_PAIRS), item_P.split(_PAIRS), strict=True):
        dots_P = pair_dots(unit_QD, rows, unit_GD, items).double()
        kept = dots_P > edges_QE[rows, -1] - near
        rows, items, dots_P = rows[kept], items[kept], dots_P[kept]
        slot_P = torch.searchsorted(flat, dots_P + offset_Q1[rows, 0]) - rows * edges
        over = rising_QE[rows, slot_P.clamp(max=edges - 1)] - dots_P
        under = dots_P - rising_QE[rows, (slot_P - 1).clamp(min=0)]
        open_P = (torch.minimum(over.abs(), under.abs()) <= near).nonzero()[:, 0]
        open_rows = rows[open_P]
        exact_P = exact_dots(unit_QD, open_rows, unit_GD, items[open_P])
        for some in torch.arange(len(open_P), device=open_P.device).split(1 + _CELLS // edges):
            rising_SE = rising_QE[open_rows[some]]
            slot_P[open_P[some]] = torch.searchsorted(rising_SE, exact_P[some, None])[:, 0]
        counts_QE += _cumulated(rows, slot_P, queries, edges)
    return counts_QE


def count_rows(
    unit_QD: torch.Tensor, unit_GD: torch.Tensor, edges_QE: torch.Tensor, columns: int
) -> torch.Tensor:
    """Counts over all items, for queries that have many above their edges.

    Args:
        columns: items at a time.
    """
    counts_QE = torch.zeros_like(edges_QE, dtype=torch.int64)
    two_Q = edges_QE.isfinite().sum(1) <= 2
    for few, count in ((True, _count_between), (False, _count_exactly)):
        rows_R = (two_Q == few).nonzero()[:, 0]
        if len(rows_R):
            last = 2 if few else edges_QE.shape[1]
            edges_RE, some_RD = edges_QE[rows_R, -last:], unit_QD[rows_R]
            # In float64 an entry takes eight times as much memory, with its place.
            step = columns // (2 if few else 16)
            for block_GD in unit_GD.split(max(_LANES, step // _LANES * _LANES)):
                counts_QE[rows_R, -last:] += count(some_RD, block_GD, edges_RE)
    return counts_QE


def _count_between(
    unit_QD: torch.Tensor, unit_GD: torch.Tensor, edges_Q2: torch.Tensor
) -> torch.Tensor:
    """For two edges that lie close together: float32, but for what lies between or near them."""
    near = rounding(unit_QD.shape[1]) + 1e-7  # the edges are made float32, too
    with full_float32():
        sims_QG = unit_QD @ unit_GD.T
    over_QG = sims_QG > (edges_Q2[:, :1] + near).float()
    between_QG = over_QG ^ (sims_QG > (edges_Q2[:, 1:] - near).float())
    counts_Q2 = _true_in_rows(over_QG)[:, None].repeat(1, 2)
    exactly_Q = _true_in_rows(between_QG) > _UNDECIDED * len(unit_GD)
    between_QG[exactly_Q] = False
    row_P, item_P = between_QG.view(torch.uint8).nonzero(as_tuple=True)
    exact_P = exact_dots(unit_QD, row_P, unit_GD, item_P)
    slot_P = (exact_P[:, None] > edges_Q2[row_P]).sum(1)
    counts_Q2 += _cumulated(row_P, slot_P, *edges_Q2.shape)
    if exactly_Q.any():
        rest_RD, rest_R2 = unit_QD[exactly_Q], edges_Q2[exactly_Q]
        parts = [_count_exactly(rest_RD, part, rest_R2) for part in unit_GD.split(_LANES)]
        counts_Q2[exactly_Q] = torch.stack(parts).sum(0)
    return counts_Q2


def _count_exactly(
    unit_QD: torch.Tensor, unit_GD: torch.Tensor, edges_QE: torch.Tensor
) -> torch.Tensor:
    """For any edges, in float64."""
    sims_QG = unit_QD.double() @ unit_GD.double().T
    slot_QG = torch.searchsorted(edges_QE.flip(1).contiguous(), sims_QG)
    row_Q = torch.arange(len(sims_QG), device=sims_QG.device)
    row_QG = row_Q[:, None].expand_as(slot_QG)
    return _cumulated(row_QG.flatten(), slot_QG.flatten(), *edges_QE.shape)


def _cumulated(row_P: torch.Tensor, slot_P: torch.Tensor, queries: int, edges: int) -> torch.Tensor:
    """Entries that exceed the last `slot` edges of their row, as counts above each edge [Q, E]."""
    flat = torch.bincount(row_P * (edges + 1) + slot_P, minlength=queries * (edges + 1))
    # Above edge e are those that exceed at least the last E - e.
    return flat.view(queries, edges + 1).flip(1).cumsum(1)[:, :edges]


def _true_in_rows(mask_QG: torch.Tensor) -> torch.Tensor:
    """How many entries of each row are true, int64 [Q]; eight bytes at a time where that fits."""
    if mask_QG.shape[1] % _LANES:
        return mask_QG.sum(1)
    lanes_QW = mask_QG.view(torch.int64).unflatten(1, (-1, _LANES // 8)).sum(2)
    return lanes_QW.view(torch.uint8).sum(1)
