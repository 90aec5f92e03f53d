"""The composition of a method: centers -> generator -> mining -> loss, on the global batch."""

from collections.abc import Iterable
from contextlib import nullcontext
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from rhs.config.instantiate import build
from rhs.distributed import collectives
from rhs.errors import UserError
from rhs.methods import diagnostics
from rhs.methods.anchor_sums import BatchGenerator, anchor_sums, label_sums
from rhs.methods.batch import Batch
from rhs.methods.centers import SignatureCenters
from rhs.methods.compatibility import check_combination
from rhs.methods.sums import Sums, masked_sums
from rhs.methods.tiles import LARGE, Shares, rows_of

# What a method may name besides this package's own parts.
OUTSIDE = tuple(
    f"pytorch_metric_learning.{part}."
    for part in ("losses", "miners", "distances", "reducers", "regularizers")
)
NOT_OURS = ("name", "batches")  # keys of a method that are no part of its loss


class Objective(nn.Module):
    """A metric-learning loss of a batch that may be spread over many workers.

    Every rank gathers all embeddings. Of a small batch each computes the same, full loss; of a
    large one each computes the rows of its own share of the anchors, in tiles. The value is that of
    one process holding the whole batch, and so are the gradients once DistributedDataParallel has
    averaged them. The objective's own parameters need no averaging: their gradients are complete on
    every rank. Ranks may have any number of rows, other seeds and other starting values: random
    numbers, and what is learned or kept, are rank 0's.

    Only in training mode and with gradients does a forward pass change what is kept (centers):
    after `eval()` or under `no_grad` it leaves the state as it is.

    Args:
        loss: one of the losses of rhs.methods.interfaces, as the other parts are.
        mining: chooses positives and negatives among originals and synthetic points; None for a
            loss that takes embeddings and labels.
        measure: how two embeddings are compared: `dot`, `euclidean` or `squared_euclidean`.
        generator: makes synthetic points, or None.
        centers: class centers for the generator, or None.
        signatures: a softmax over learned class signatures that is added to the loss, or None.
        signature_weight: its weight, lambda in SCHEM.
        normalize: put embeddings on the unit sphere first.
        original_weight: share, 0 to 1, of the loss on the original samples alone.
        l2: weight of the mean squared length, counted as 0.25 l2 (mean |a|^2 + mean |p|^2), which
            is 0.5 l2 mean |x|^2; for un-normalized embeddings.
        tile: anchors that are compared with the batch at a time; None: by its size. A step's memory
            grows with this number times the batch; values and gradients do not depend on it.

    Raises:
        UserError: parts that do not go together.
    """

    def __init__(
        self,
        loss: Any,
        mining: Any = None,
        measure: str = "dot",
        generator: Any = None,
        centers: Any = None,
        *,
        signatures: Any = None,
        signature_weight: float = 1.0,
        normalize: bool = True,
        original_weight: float = 0.0,
        l2: float = 0.0,
        tile: int | None = None,
    ):
        super().__init__()
        self.loss, self.mining, self.measure = loss, mining, measure
        self.generator, self.centers, self.signatures = generator, centers, signatures
        self.signature_weight, self.normalize = signature_weight, normalize
        self.original_weight, self.l2, self.tile = original_weight, l2, tile
        self.has_met = False  # whether what is learned and kept is rank 0's, if there are ranks
        check_combination(self)
        if not loss.takes_labels:
            loss.set_measure(measure)

    def prepare(self, num_classes: int, dim: int, **more: Any) -> None:
        """Allocate what is kept per class. Call once, before training or loading a checkpoint.

        No rank waits for another here: in the first forward pass rank 0's values reach all.

        Args:
            more: for a loss that takes continuous labels: `values_CL`, those of the classes, or
                `images_have_values=True`, if `forward` will be given each image's own.
        """
        for part in (self.centers, self.generator, self.signatures, self.loss):
            if part is not None:
                takes_more = part is self.loss and self.loss.continuous
                part.prepare(num_classes, dim, **(more if takes_more else {}))

    def needs_refresh(self, epoch: int) -> bool:
        """Whether a part wants the whole training set's embeddings before this epoch, from 0."""
        return any(epoch % part.every == 0 for part in self._refreshed())

    def refresh(self, epoch: int, samples: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> None:
        """Show this rank's share of the training set, (raw embeddings, labels) in batches.

        Every sample must come once, on one rank.
        """
        due = [part for part in self._refreshed() if epoch % part.every == 0]
        sums = [part.start_refresh() for part in due]
        for raw_bD, labels_b in samples:
            x_bD = F.normalize(raw_bD) if self.normalize else raw_bD
            for part, total in zip(due, sums, strict=True):
                total.add(raw_bD if part is self.generator else x_bD, labels_b)
        for part, total in zip(due, sums, strict=True):
            part.finish_refresh(total)

    def _refreshed(self) -> list:
        parts = (self.centers, self.generator, self.signatures, self.loss)
        return [part for part in parts if part is not None and part.wants_refresh]

    def forward(
        self,
        x_local_bD: torch.Tensor,
        labels: torch.Tensor,
        progress: float = 0.0,
        values: torch.Tensor | None = None,
        alike: bool = False,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Loss of the global batch and its diagnostics, the same on every rank.

        Args:
            x_local_bD: this rank's embeddings; any number of rows. Computed on in float32, or
                float64 if they are, whatever autocast says.
            labels: [b] their class numbers.
            progress: share of training done, 0 to 1.
            values: [b, L] their continuous labels, for a loss that takes them.
            alike: the ranks follow one plan, as in this project's training loop: they have as many
                rows, the same state of torch's generators and the same objective, and `labels` and
                `values` are those of the whole batch, B rows in rank order. Then embeddings alone
                are sent.

        Raises:
            UserError: no rank has a row.
        """
        device = x_local_bD.device
        counts = None
        if not alike:
            self._meet()
            counts = collectives.row_counts(labels)
            if not sum(counts):
                raise UserError("The batch is empty: no worker has a row of it.")
            labels = collectives.gather(labels, counts)
            if values is not None:
                values = collectives.gather(values, counts)
        shares = self._shares(len(labels))
        exact = torch.promote_types(x_local_bD.dtype, torch.float32)
        same = nullcontext() if alike else collectives.drawing_alike(device)
        with torch.autocast(device.type, enabled=False), same:
            raw_BD = collectives.gather(x_local_bD.to(exact), counts, shares.shared)
            return self._of_batch((raw_BD, labels, values), progress, shares)

    def _shares(self, rows: int) -> Shares:
        """Who computes which rows of the loss: workers share those of a large batch."""
        divisible = self.loss.divisible and (self.signatures is None or self.signatures.divisible)
        many = collectives.world_size() > 1 and rows**2 >= LARGE
        return Shares(many, self.tile, whole=not divisible)

    @torch.no_grad()
    def _meet(self) -> None:
        """Once: take over what rank 0's objective has learned and kept, as DDP does for a model."""
        if not self.has_met and collectives.world_size() > 1:
            self.has_met = True
            for tensor in [*self.parameters(), *self.buffers()]:
                tensor.copy_(collectives.broadcast_from_first(tensor))

    def _of_batch(
        self,
        given: tuple[torch.Tensor, torch.Tensor, torch.Tensor | None],
        progress: float,
        shares: Shares,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        raw_BD, labels_B, values_BL = given
        x_BD = F.normalize(raw_BD) if self.normalize else raw_BD
        measured = diagnostics.of_batch(x_BD, labels_B)
        original: list[Sums] = []
        of_points: dict[str, Sums] = {}
        if self.mining is None:
            lost = label_sums(self.loss, x_BD, labels_B, values_BL, shares)
        else:
            centers_BD = self._centers(x_BD, labels_B, shares)
            batch = Batch(x_BD, raw_BD, labels_B, centers_BD, self.normalize)
            lost, original, of_points = self._mined(batch, progress, shares)
        of_signatures: list[Sums] = []
        if self.signatures is not None:
            of_signatures = label_sums(self.signatures, x_BD, labels_B, None, shares)
        lengths: list[Sums] = []
        if self.l2:
            squares_R = rows_of(x_BD, shares.own(len(x_BD))).square().sum(1)
            lengths = [masked_sums(squares_R, torch.ones_like(squares_R, dtype=torch.bool))]
        terms = [lost, original, of_signatures, lengths, list(of_points.values())]
        means = iter(shares.means([sums for term in terms for sums in term], x_BD))
        lost_, original_, signatures_, lengths_, points_ = ([next(means) for _ in t] for t in terms)
        measured.update(zip(of_points, (each.detach() for each in points_), strict=True))
        loss = reduce(torch.add, lost_)
        if original_:
            loss = torch.lerp(loss, reduce(torch.add, original_), self.original_weight)
        if signatures_:
            loss = loss + self.signature_weight * signatures_[0]
        return loss + 0.5 * self.l2 * lengths_[0] if lengths_ else loss, measured

    def _mined(
        self, batch: Batch, progress: float, shares: Shares
    ) -> tuple[list[Sums], list[Sums], dict[str, Sums]]:
        generate = None
        if self.generator is not None:
            generate = BatchGenerator(self.generator, batch, progress)
        mixed = self.original_weight > 0
        anchors = self.mining(batch, generate, self.measure, mixed, shares)
        return anchor_sums(self.loss, anchors, batch.labels_B, shares)

    def _centers(
        self, x_BD: torch.Tensor, labels_B: torch.Tensor, shares: Shares
    ) -> torch.Tensor | None:
        if self.centers is None:
            return None
        if isinstance(self.centers, SignatureCenters):
            return shares.complete(self.centers(self.signatures, labels_B))
        return self.centers(x_BD, labels_B)


def build_objective(config: dict) -> Objective:
    """What a `method` group describes, but for the keys that only label it or compose batches.

    Raises:
        UserError: it cannot be built from its settings.
    """
    return build({k: v for k, v in config.items() if k not in NOT_OURS}, also=OUTSIDE)


def takes_values(objective: Objective) -> bool:  # whether the loss is of continuous labels
    return objective.loss.continuous
