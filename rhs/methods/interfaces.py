"""What a method's parts offer and hand to each other: batch, synthetic points, similarities.

A part is called with tensors of the global batch: B rows, D dimensions, C classes in all. Each
Protocol below may be inherited, which brings the defaults; or a part has all of its members itself.
"""

from typing import Any, Protocol

import torch

from rhs.methods.batch import AnchorSimilarities, SyntheticPoints
from rhs.methods.sums import Sums
from rhs.methods.tiles import RowSums, Shares


class Generate(Protocol):
    """A generator that knows the batch: makes SyntheticPoints of pairs (anchor_N, positive_N).

    Attributes:
        for_classes: its points are made for whole classes, whichever pairs there are.
    """

    for_classes: bool

    def __call__(self, anchor_N: torch.Tensor, positive_N: torch.Tensor) -> SyntheticPoints: ...


class Part(Protocol):
    """What every part but a miner offers.

    Attributes:
        wants_refresh: it is shown the whole training set between epochs, see `Refreshed`.
    """

    wants_refresh: bool = False

    def prepare(self, num_classes: int, dim: int) -> None:
        """Allocate what is kept for each class; once, before the first step."""
        return


class Refreshed(Protocol):
    """What a part with `wants_refresh` offers besides.

    Attributes:
        every: epochs between two passes over the training set; the first is before epoch 0.
    """

    every: int

    def start_refresh(self) -> Any:
        """What has `add(x_bD, labels_b)` for each batch of this rank's share: a ClassSums."""

    def finish_refresh(self, sums: Any) -> None:
        """Take over what all ranks have added."""


class Loss(Part, Protocol):
    """What every loss offers.

    Attributes:
        takes_labels: it is called with embeddings and labels, and there is no mining.
        continuous: labels are numbers; see `ContinuousLoss`.
        divisible: it is a sum of means over rows, so that tiles and workers may compute some rows
            each (`DivisibleLoss`, `DivisibleLabelLoss`); any other is computed whole everywhere.
    """

    takes_labels: bool = False
    continuous: bool = False
    divisible: bool = False


class SimilarityLoss(Loss, Protocol):
    """`loss(rows)`: a scalar, of a miner's AnchorSimilarities.

    Attributes:
        measures: those of rhs.methods.similarity that it can take.
        both_ends: its negatives are (a + p) . n, as PairMiner makes them with `both_ends`.
        needs_partner: it takes the negatives of both ends of a pair.
    """

    measures: tuple[str, ...]
    both_ends: bool = False
    needs_partner: bool = False

    def set_measure(self, measure: str) -> None:
        """Hear the method's measure, one of `measures`; once, before `prepare`."""
        return


class DivisibleLoss(SimilarityLoss, Protocol):
    """What a SimilarityLoss offers besides, if it is divisible."""

    divisible: bool = True

    def sums(self, rows: AnchorSimilarities) -> list[Sums]:
        """The means that the loss is the sum of, as totals and counts over these rows."""

    def learned(self, labels_B: torch.Tensor) -> torch.Tensor | None:
        """What it learns for each row's class [B, 1], which comes back in `rows.learned_R1`."""
        return None

    def joined_negatives(self, rows: AnchorSimilarities) -> torch.Tensor:
        """If it `needs_partner`: a similarity [R, 1] that stands for all of a row's negatives."""
        return rows.nearest_negative()


class LabelLoss(Loss, Protocol):
    """`loss(x_BD, labels_B)`: a scalar."""

    takes_labels: bool = True


class DivisibleLabelLoss(LabelLoss, Protocol):
    """What a LabelLoss offers besides, if it is divisible."""

    divisible: bool = True

    def row_sums(
        self,
        x_BD: torch.Tensor,
        labels_B: torch.Tensor,
        values_BL: torch.Tensor | None,
        shares: Shares,
    ) -> RowSums:
        """The sums of any of its rows, with `shares.complete` of what it learns."""


class ContinuousLoss(LabelLoss, Protocol):
    """`loss(x_BD, labels_B, y_BL)`: a scalar; y_BL are continuous labels, None: the classes'.

    `prepare` also takes `values_CL`, the labels of the classes, and `images_have_values`.
    """

    continuous: bool = True


class Generator(Part, Protocol):
    """`generator(batch, anchor_N, positive_N, progress)`: SyntheticPoints.

    It is given the Batch, N pairs of its rows that share a class, and the share of training done, 0
    to 1. Which pairs there are, and what the points compete with, is the miner's concern.

    Attributes:
        needs_centers: it reads `batch.centers_BD`.
        for_classes: its points are made for whole classes, not for pairs.
        needs_unit_length: it puts points on the unit sphere, where the batch must be too.
        uses_progress: its points change with the share of training done.
    """

    uses_progress: bool = False
    needs_centers: bool = False
    for_classes: bool = False
    needs_unit_length: bool = False


class Centers(Part, Protocol):
    """`centers(x_BD, labels_B)`: class centers [B, D], one row for each row of the batch."""


class Signatures(Part, Protocol):
    """`signatures(x_BD, labels_B)`: a scalar that is added to the loss, and trains them."""

    def of(self, labels_B: torch.Tensor) -> torch.Tensor:
        """The unit signatures [B, D] of some classes."""

    def all(self) -> torch.Tensor:
        """The unit signatures [C, D] of all classes."""


class Miner(Protocol):
    """`mining(batch, generate, measure, with_plain, shares)`: AnchorRows.

    `generate(anchor_N, positive_N)` makes SyntheticPoints; None where there is no generator.
    `with_plain` asks for the rows of the originals too, and `shares` (rhs.methods.tiles.Shares)
    says whether all rows will be asked for at once.

    Attributes:
        both_ends: negatives are (a + p) . n.
        uses_generator: it cannot do without a generator's points.
        per_positive: each positive has negatives of its own.
        needs_unit_length: it takes embeddings of unit length alone.
    """

    both_ends: bool = False
    uses_generator: bool = False
    per_positive: bool = False
    needs_unit_length: bool = False
