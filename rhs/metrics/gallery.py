"""The items that queries are compared with: what ranks need to know of them, without sorting.

A query asks three things: the similarities of the items of its class, a bound below which no rank
matters, and how many items lie above certain similarities. The answers of several parts of a
gallery merge into that of the whole (rhs.metrics.sharded_gallery).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from rhs.metrics.bounded_products import Float32, Int8, fast_bytes, pair_dots, rounding
from rhs.metrics.rank_counting import STRIDE, count_pairs, count_rows, exceeding, fold

QUERIES = 1024  # in a block
_TOUCHED = 0.2  # of a block's columns may hold something above a query's last edge: one item in 70


@dataclass(frozen=True)
class Queries:
    """Some queries, ordered by class.

    ``unit`` float32 [Q, D]; ``labels`` int64 [Q]; ``ids`` int64 [Q], which of all items each is.
    """

    unit: np.ndarray
    labels: np.ndarray
    ids: np.ndarray


@dataclass(frozen=True)
class _Look:
    """What queries see of the first block: products [Q, S], and the best [Q, W] of each column of
    the folded block; with the queries' codes and margins."""

    ids: np.ndarray
    code: torch.Tensor
    margin: torch.Tensor
    product: torch.Tensor
    best: torch.Tensor


class Gallery:
    """A gallery, or a part of one, in the memory of one process.

    Args:
        unit_GD: float32 unit rows.
        labels_G: int64 classes, ascending.
        ids_G: int64, which of all items each is; a query is not compared with itself.
        memory_mib: that comparing takes, about, beside the items and a quarter of them in codes.
        device: "cpu" or "cuda"; None: the GPU where there is one.
    """

    def __init__(
        self,
        unit_GD: np.ndarray,
        labels_G: np.ndarray,
        ids_G: np.ndarray,
        *,
        memory_mib: int = 256,
        device: str | None = None,
    ):
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.unit = torch.from_numpy(unit_GD).to(self.device)
        self.labels, self.ids = labels_G, ids_G
        columns = memory_mib * 2**20 // (16 * QUERIES) // STRIDE * STRIDE
        self._columns = min(max(STRIDE, columns), max(1, len(labels_G)))
        # Any block is then a fair sample of the gallery; the first one is used as such.
        blocks = max(1, -(-len(labels_G) // self._columns))
        mixed = np.concatenate([np.arange(b, len(labels_G), blocks) for b in range(blocks)])
        self._mixed = torch.from_numpy(mixed).to(self.device)
        self._seen: _Look | None = None

    @cached_property
    def _coarse(self) -> Int8 | Float32:
        return (Int8 if fast_bytes(self.device, self.unit.shape[1]) else Float32)(
            self.unit, self._mixed
        )

    @cached_property
    def _room(self) -> torch.Tensor:
        return torch.empty(QUERIES * self._columns, dtype=self._coarse.kind, device=self.device)

    @cached_property
    def _first_room(self) -> torch.Tensor:
        return torch.empty_like(self._room)

    def relevant(self, queries: Queries) -> tuple[np.ndarray, np.ndarray]:
        """Similarities, float64, of each query to the items of its class.

        Returns:
            [Q, M] in no order, without itself, filled with -inf; and [Q] to itself, -inf where it
            is not here.
        """
        names_C, starts_C = np.unique(queries.labels, return_index=True)
        firsts_C = np.searchsorted(self.labels, names_C)
        lasts_C = np.searchsorted(self.labels, names_C, side="right")
        sims_QM = np.full((len(queries.ids), int((lasts_C - firsts_C).max(initial=0))), -np.inf)
        own_Q = np.full(len(queries.ids), -np.inf)
        ends_C = [*starts_C[1:], len(queries.ids)]
        for start, end, first, last in zip(starts_C, ends_C, firsts_C, lasts_C, strict=True):
            theirs = self.unit[first:last].cpu().numpy().astype(np.float64)
            block = queries.unit[start:end].astype(np.float64) @ theirs.T
            itself, there = np.nonzero(queries.ids[start:end, None] == self.ids[first:last])
            own_Q[start + itself] = block[itself, there]
            block[itself, there] = -np.inf
            sims_QM[start:end, : last - first] = block
        return sims_QM, own_Q

    def floor(self, queries: Queries, places_Q: np.ndarray) -> np.ndarray:
        """A similarity [Q] that at least ``places_Q`` items reach, or -inf.

        What the last few items of the top of a block reach, so do as many of all.
        """
        if not len(self.labels):
            return np.full(len(queries.ids), -np.inf)
        unit_QD = torch.from_numpy(queries.unit).to(self.device)
        look = self._look(queries, unit_QD)
        most, width = int(places_Q.max()), look.best.shape[1]
        if most > width // 2:
            return self._plain_floor(look, places_Q)
        # The best of each column are different items; the columns with the best of these.
        column_QK = look.best.topk(most, dim=1).indices
        at_QSK = fold(look.product).gather(2, column_QK[:, None].expand(-1, STRIDE, -1)).argmax(1)
        item_QK = self._mixed[at_QSK * width + column_QK]
        row_P = torch.arange(len(unit_QD), device=self.device).repeat_interleave(most)
        sims_QK = pair_dots(unit_QD, row_P, self.unit, item_QK.flatten()).view(-1, most)
        sorted_QK = sims_QK.sort(dim=1, descending=True).values.double().cpu().numpy()
        return sorted_QK[np.arange(len(sorted_QK)), places_Q - 1] - rounding(unit_QD.shape[1])

    def _plain_floor(self, look: _Look, places_Q: np.ndarray) -> np.ndarray:
        most = min(int(places_Q.max()), look.product.shape[1])
        top_QK = look.product.float().topk(most, dim=1).values.double() * self._coarse.step**2
        top_QK = top_QK - look.margin[:, None]
        at_Q = np.minimum(places_Q, most) - 1
        low_Q = top_QK.cpu().numpy()[np.arange(len(at_Q)), at_Q]
        return np.where(places_Q <= most, low_Q, -np.inf)

    def above(self, queries: Queries, edges_QE: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How many items, itself included, are more similar than each edge.

        Args:
            edges_QE: float64, descending in every row, with +inf for those that a row has not.

        Returns:
            int64 [Q, E], and bool [Q], which queries have too many for that: these are not counted.
        """
        unit_QD = torch.from_numpy(queries.unit).to(self.device)
        edges = torch.from_numpy(edges_QE).to(self.device)
        counts_QE = torch.zeros_like(edges, dtype=torch.int64)
        if not len(self.labels):
            return counts_QE.cpu().numpy(), np.zeros(len(edges_QE), dtype=bool)
        look = self._look(queries, unit_QD)
        limit_Q1 = self._coarse.limit(edges[:, -1] - look.margin)
        many_Q = (look.best > limit_Q1).float().mean(1) > _TOUCHED
        few = (~many_Q).nonzero()[:, 0]
        # In the first block the products of all queries are at hand.
        limit_Q1[many_Q] = torch.finfo(torch.float32).max if limit_Q1.is_floating_point() else 2**30
        product_QG, best_QW = look.product, look.best
        for first in range(0, len(self.labels) if len(few) else 0, self._columns):
            if first:
                block = slice(first, first + self._columns)
                product_QG = self._coarse.product(look.code[few], block, self._room)
                best_QW = fold(product_QG).amax(1)
            row_P, column_P = exceeding(product_QG, best_QW, limit_Q1[few] if first else limit_Q1)
            asking_P = few[row_P] if first else row_P
            item_P = self._mixed[first + column_P]
            counts_QE += count_pairs(unit_QD, asking_P, self.unit, item_P, edges)
        return counts_QE.cpu().numpy(), many_Q.cpu().numpy()

    def above_in_full(self, queries: Queries, edges_QE: np.ndarray) -> np.ndarray:
        """The same by whole rows of similarities: int64 [Q, E]."""
        unit_QD = torch.from_numpy(queries.unit).to(self.device)
        edges = torch.from_numpy(edges_QE).to(self.device)
        if not len(self.labels):
            return np.zeros(edges_QE.shape, dtype=np.int64)
        return count_rows(unit_QD, self.unit, edges, self._columns).cpu().numpy()

    def _look(self, queries: Queries, unit_QD: torch.Tensor) -> _Look:
        """At the first block; `above` asks for what `floor` has seen."""
        if self._seen is None or not np.array_equal(self._seen.ids, queries.ids):
            code_QD, error_Q = self._coarse.encode(unit_QD)
            product_QG = self._coarse.product(code_QD, slice(0, self._columns), self._first_room)
            margin_Q, best_QW = self._coarse.margin(error_Q), fold(product_QG).amax(1)
            self._seen = _Look(queries.ids, code_QD, margin_Q, product_QG, best_QW)
        return self._seen
