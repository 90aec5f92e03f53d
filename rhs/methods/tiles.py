"""The rows of a loss in tiles, and over workers: neither needs a matrix of the whole batch."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.utils.checkpoint import checkpoint

from rhs.distributed import collectives
from rhs.methods.sums import Sums

ENTRIES = 2**23  # of a tile, at most: 32 MiB of each matrix in float32
LARGE = 2**20  # entries of a loss from which on workers share its rows; below, messages cost more


@dataclass
class RowSums:
    """Sums over rows that can be had of any of them.

    Attributes:
        count: rows in all.
        columns: what each is compared with, in numbers.
        sums: those of a slice of the rows; each call returns as many.
    """

    count: int
    columns: int
    sums: Callable[[slice], list[Sums]]


class Shares:
    """Which rows this worker computes, and how many of them at a time.

    Args:
        shared: each worker computes its own share of the rows; else each all of them.
        tile: rows at a time; None: by the number of columns, `ENTRIES` at most.
        whole: all rows are computed at once.
    """

    def __init__(self, shared: bool, tile: int | None = None, *, whole: bool = False):
        self.shared, self.tile, self.whole = shared and not whole, tile, whole

    def counts(self, count: int) -> list[int]:
        """Of so many rows those of each worker."""
        size = collectives.world_size()
        return [count * (rank + 1) // size - count * rank // size for rank in range(size)]

    def own(self, count: int) -> slice:
        """This worker's rows of so many."""
        size, rank = (collectives.world_size(), collectives.rank()) if self.shared else (1, 0)
        return slice(count * rank // size, count * (rank + 1) // size)

    def tiles(self, count: int, columns: int) -> list[slice]:
        """This worker's rows of so many in pieces, at least one."""
        own = self.own(count)
        step = self.tile or max(1, ENTRIES // max(1, columns))
        if self.whole or own.stop - own.start <= step:
            return [own]
        return [slice(at, min(at + step, own.stop)) for at in range(own.start, own.stop, step)]

    def complete(self, x: torch.Tensor) -> torch.Tensor:
        """What the loss learns, or what is computed of it: its gradient is that of all rows."""
        return collectives.complete(x) if self.shared and x.requires_grad else x

    def in_pieces(self, count: int, columns: int) -> bool:
        """Whether this worker sees less than all rows at a time."""
        return self.shared or len(self.tiles(count, columns)) > 1

    def sums(self, rows: RowSums) -> list[Sums]:
        """Those of this worker's rows; what a tile needs is computed again for its gradient."""
        tiles = self.tiles(rows.count, rows.columns)
        if len(tiles) == 1:
            return rows.sums(tiles[0])
        of_tiles = zip(*(recomputed(rows.sums, tile) for tile in tiles), strict=True)
        pairs = ([torch.stack(z).sum(0) for z in zip(*each, strict=True)] for each in of_tiles)
        return [(total, count) for total, count in pairs]

    def means(self, sums: list[Sums], x_BD: torch.Tensor) -> list[torch.Tensor]:
        """What these sums are of, over the rows of all workers: one short message if they share.

        Args:
            x_BD: the batch, which then has a gradient on each of them.
        """
        if not sums:
            return []
        if not self.shared:
            return [total / count.clamp_min(1) for total, count in sums]
        totals = torch.stack([total.to(x_BD.dtype) for total, _ in sums]) + 0 * x_BD[:1].sum()
        counts = torch.stack([count.to(x_BD.dtype) for _, count in sums])
        totals, counts = collectives.sum_of_shares(torch.cat([totals, counts])).chunk(2)
        return list((totals / counts.detach().clamp_min(1)).unbind())


WHOLE = Shares(False, whole=True)


def rows_of(x: torch.Tensor, own: slice) -> torch.Tensor:
    """Some rows of x; x itself if they are all, so that its gradient adds up in the same order."""
    return x if len(range(len(x))[own]) == len(x) else x[own]


def recomputed(function: Callable, *arguments: object) -> list:
    """The function's result; in the backward pass it is called again. It draws nothing."""
    return checkpoint(function, *arguments, use_reentrant=False, preserve_rng_state=False)
