"""The sums of a loss over this worker's share of the anchors, tile by tile."""

from typing import Any

import torch

from rhs.distributed import collectives
from rhs.methods.batch import AnchorRows, AnchorSimilarities, Batch, SyntheticPoints
from rhs.methods.sums import Sums
from rhs.methods.tiles import RowSums, Shares, recomputed

# Of the rows, of the originals' rows, and the diagnostics.
Found = tuple[list[Sums], list[Sums], dict[str, Sums]]


class BatchGenerator:
    """A generator that knows the batch and the share of training done; see interfaces.Generate."""

    def __init__(self, generator: Any, batch: Batch, progress: float):
        self.generator, self.batch, self.progress = generator, batch, progress
        self.for_classes = generator.for_classes

    def __call__(self, anchor_N: torch.Tensor, positive_N: torch.Tensor) -> SyntheticPoints:
        return self.generator(self.batch, anchor_N, positive_N, progress=self.progress)


def label_sums(
    loss: Any,
    x_BD: torch.Tensor,
    labels_B: torch.Tensor,
    values_BL: torch.Tensor | None,
    shares: Shares,
) -> list[Sums]:
    """Those of a loss that takes embeddings and labels."""
    if loss.divisible:
        return shares.sums(loss.row_sums(x_BD, labels_B, values_BL, shares))
    more = () if values_BL is None else (values_BL,)
    return [_whole(loss(x_BD, labels_B, *more))]


def anchor_sums(loss: Any, anchors: AnchorRows, labels_B: torch.Tensor, shares: Shares) -> Found:
    """Those of a loss of similarities."""
    pieces = shares.in_pieces(anchors.count, anchors.columns)
    if loss.needs_partner and pieces and anchors.have_partners:
        return _of_partners(loss, anchors, shares)
    learned_B1 = loss.learned(labels_B) if loss.divisible else None
    if learned_B1 is not None:
        learned_B1 = shares.complete(learned_B1)
    names: list[str] = []
    kinds: list[int] = []  # how many sums the rows have, and the originals'

    def sums(own: slice) -> list[Sums]:
        made = [rows for rows in anchors.rows(own) if rows is not None]
        of_each = [_sums(loss, rows, learned_B1) for rows in made]
        names[:], kinds[:] = made[0].diagnostics, map(len, of_each)
        return [*(one for some in of_each for one in some), *made[0].diagnostics.values()]

    found = shares.sums(RowSums(anchors.count, anchors.columns, sums))
    lost, rest = found[: kinds[0]], found[kinds[0] :]
    plain = rest[: len(rest) - len(names)]
    return lost, plain, dict(zip(names, rest[len(plain) :], strict=True))


def _sums(loss: Any, rows: AnchorSimilarities, learned_B1: torch.Tensor | None) -> list[Sums]:
    if not loss.divisible:
        return [_whole(loss(rows))]
    if learned_B1 is not None:
        rows.learned_R1 = learned_B1[rows.anchor_R]
    return loss.sums(rows)


def _whole(value: torch.Tensor) -> Sums:
    """The value of all rows."""
    return value, torch.ones_like(value)


def _of_partners(loss: Any, anchors: AnchorRows, shares: Shares) -> Found:
    """Those of a loss that takes the negatives of both ends of a pair, whose rows may be another
    worker's: first a number for the negatives of each row, then the pairs."""
    names: list[str] = []

    def numbers(own: slice) -> list[torch.Tensor]:
        made = [rows for rows in anchors.rows(own) if rows is not None]
        names[:] = made[0].diagnostics
        tensors = [tensor for rows in made for tensor in _joined(loss, rows)]
        return [*tensors, *(z.reshape(1) for sums in made[0].diagnostics.values() for z in sums)]

    tiles = shares.tiles(anchors.count, anchors.columns)
    of_tiles = [recomputed(numbers, tile) if len(tiles) > 1 else numbers(tile) for tile in tiles]
    joined = [torch.cat(parts) for parts in zip(*of_tiles, strict=True)]
    cut = len(joined) - 2 * len(names)
    told = [(joined[i].sum(), joined[i + 1].sum()) for i in range(cut, len(joined), 2)]
    each = (joined[at : at + 6] for at in range(0, cut, 6))
    lost, *plain = [loss.sums(_with_partners(some, anchors.count, shares)) for some in each]
    return lost, plain[0] if plain else [], dict(zip(names, told, strict=True))


def _joined(loss: Any, rows: AnchorSimilarities) -> list[torch.Tensor]:
    """Rows with one number for all of their negatives."""
    assert rows.partner_RP is not None, "rows that have partners"
    return [
        rows.positive_RP,
        rows.has_positive_RP,
        loss.joined_negatives(rows),
        rows.has_negative_RC.any(1, keepdim=True),
        rows.labels_R,
        rows.partner_RP,
    ]


def _with_partners(joined: list[torch.Tensor], count: int, shares: Shares) -> AnchorSimilarities:
    positive_RP, has_positive_RP, negative_R1, has_negative_R1, labels_R, partner_RP = joined
    rows = AnchorSimilarities(positive_RP, has_positive_RP, negative_R1, has_negative_R1, labels_R)
    end_B1 = negative_R1
    if shares.shared:
        end_B1 = collectives.gather(end_B1, shares.counts(count), shared=True)
    rows.partner_negative_RP = end_B1[:, 0][partner_RP]
    return rows
