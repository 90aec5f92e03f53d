"""What a method's parts hand to each other: batch, synthetic points, similarities of anchors.

B rows of the global batch, D dimensions.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from rhs.methods.similarity import NO_SIMILARITY
from rhs.methods.sums import Sums

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
        anchor_R: the row of the batch that each anchor is; None where nothing asks.
        partner_negative_RP: the nearest negative of that partner, or what stands for all of its
            negatives, where its row is not among these.
        learned_R1: what the loss has learned for each anchor's class (`Loss.learned`).
        diagnostics: what generated points did to these rows, as totals and counts.
    """

    positive_RP: torch.Tensor
    has_positive_RP: torch.Tensor
    negative_RC: torch.Tensor
    has_negative_RC: torch.Tensor
    labels_R: torch.Tensor
    partner_RP: torch.Tensor | None = None
    anchor_R: torch.Tensor | None = None
    partner_negative_RP: torch.Tensor | None = None
    learned_R1: torch.Tensor | None = None
    diagnostics: dict[str, Sums] = field(default_factory=dict)

    def negatives_or_nothing(self) -> torch.Tensor:
        """Negatives [R, C], the others so dissimilar that no exponential or maximum sees them."""
        return self.negative_RC.masked_fill(~self.has_negative_RC, NO_SIMILARITY)

    def nearest_negative(self) -> torch.Tensor:
        """Similarity [R, 1] of the nearest negative; NO_SIMILARITY where there is none."""
        if not self.negative_RC.shape[1]:
            return self.negative_RC.new_full((len(self.negative_RC), 1), NO_SIMILARITY)
        return self.negatives_or_nothing().amax(1, keepdim=True)


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


@dataclass
class AnchorRows:
    """The anchors of a batch, which can be had a few at a time.

    Attributes:
        count: anchors in all.
        columns: negatives of each, in numbers.
        rows: of a slice of the anchors their AnchorSimilarities, and those of the originals alone
            or None.
        have_partners: whether their rows have `partner_RP`.
    """

    count: int
    columns: int
    rows: Callable[[slice], tuple[AnchorSimilarities, AnchorSimilarities | None]]
    have_partners: bool = False
