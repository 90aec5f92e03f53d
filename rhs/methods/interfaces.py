"""What a method's parts offer and hand to each other: batch, synthetic points, similarities.

A part is called with tensors of the global batch: B rows, D dimensions, C classes in all. Each
Protocol below may be inherited, which brings the defaults; or a part has all of its members itself.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from rhs.errors import UserError
from rhs.methods.similarity import NO_SIMILARITY

HARDER = 1e-5  # a smaller gain in similarity is rounding: a reflection gains exactly nothing


@dataclass
class AnchorSimilarities:
    """R anchors with up to P positives and C negatives each; what is masked out is not theirs.

    A similarity is a dot product or minus a distance (rhs.methods.similarity).

    Attributes:
        positive_RP, has_positive_RP: similarity to each positive, and which entries count.
        negative_RC, has_negative_RC: the same for negatives.
        labels_R: class of each anchor.
        partner_RP: the row whose anchor is that positive; None where a row stands for both ends of
            its pair.
        diagnostics: what generated points did to these rows.
    """

    positive_RP: torch.Tensor
    has_positive_RP: torch.Tensor
    negative_RC: torch.Tensor
    has_negative_RC: torch.Tensor
    labels_R: torch.Tensor
    partner_RP: torch.Tensor | None = None
    diagnostics: dict[str, torch.Tensor] = field(default_factory=dict)

    def negatives_or_nothing(self) -> torch.Tensor:
        """Negatives [R, C], the others so dissimilar that no exponential or maximum sees them."""
        return self.negative_RC.masked_fill(~self.has_negative_RC, NO_SIMILARITY)

    def nearest_negative(self) -> torch.Tensor:
        """Similarity [R, 1] of the nearest negative; NO_SIMILARITY where there is none."""
        if not self.negative_RC.shape[1]:
            return self.negative_RC.new_full((len(self.negative_RC), 1), NO_SIMILARITY)
        return self.negatives_or_nothing().amax(1, keepdim=True)


def masked_mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean of the values where the mask is true; 0, with gradient 0, where it never is."""
    # where, not a product: a masked infinity times 0 would be NaN.
    return torch.where(mask, values, 0.0).sum() / mask.sum().clamp_min(1)


@dataclass
class Batch:
    """The global batch.

    Attributes:
        x_BD: embeddings as they are compared.
        raw_BD: embeddings as the model made them.
        labels_B: their classes.
        centers_BD: the class center of each row, or None.
        normalized: whether x_BD is raw_BD on the unit sphere; else the two are the same.
    """

    x_BD: torch.Tensor
    raw_BD: torch.Tensor
    labels_B: torch.Tensor
    centers_BD: torch.Tensor | None = None
    normalized: bool = True


@dataclass
class SyntheticPoints:
    """Synthetic points.

    Attributes:
        x_MD: where they are.
        labels_M: the classes they belong to.
        parent_M: the row of the batch that each descends from.
        anchor_M: the row that each was made to be hard for; None: any row of its class.
        weights_M2: where x = w0 anchor + w1 parent, these two numbers, else None; dot products with
            such points follow from those of the batch.
        positive_MD: what takes the parents' places as positives, where it is not x_MD.
        diagnostics: what is worth knowing about them.
    """

    x_MD: torch.Tensor
    labels_M: torch.Tensor
    parent_M: torch.Tensor
    anchor_M: torch.Tensor | None = None
    weights_M2: torch.Tensor | None = None
    positive_MD: torch.Tensor | None = None
    diagnostics: dict[str, torch.Tensor] = field(default_factory=dict)

    def as_positives(self) -> torch.Tensor:
        """The points [M, D] that take the parents' places as positives."""
        return self.x_MD if self.positive_MD is None else self.positive_MD


Generate = Callable[
    [torch.Tensor, torch.Tensor], SyntheticPoints
]  # (anchor_N, positive_N) -> points


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
    """

    takes_labels: bool = False
    continuous: bool = False


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


class LabelLoss(Loss, Protocol):
    """`loss(x_BD, labels_B)`: a scalar."""

    takes_labels: bool = True


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
    """`mining(batch, generate, measure, with_plain)`: AnchorSimilarities, and those of the
    originals alone or None.

    `generate(anchor_N, positive_N)` makes SyntheticPoints; None where there is no generator.

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


def check_members(key: str, part: Any, kind: type) -> None:
    """Raises UserError where a part lacks a member of its Protocol."""
    for base in reversed(kind.__mro__[:-1]):
        names = [*vars(base).get("__annotations__", {}), *vars(base)]
        for name in names:
            if not name.startswith("_") and not hasattr(part, name):
                raise UserError(
                    f"method.{key} is {type(part).__name__}, which has no member {name!r}: inherit "
                    f"rhs.methods.interfaces.{kind.__name__}, or give it one."
                )
    if not callable(part) and kind is not Refreshed:
        raise UserError(f"method.{key} is {type(part).__name__}, which cannot be called.")
