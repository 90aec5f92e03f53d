"""Contrastive loss of a siamese network: pairs of one class, pairs of two."""

import torch

from rhs.errors import check_number
from rhs.methods.batch import AnchorSimilarities
from rhs.methods.losses.divisible import RowLoss
from rhs.methods.sums import Sums, masked_sums


class Contrastive(RowLoss):
    """1/2 d^2 for a positive pair, 1/2 [margin - d]_+^2 for a negative one.

    Each kind is averaged over its pairs that add anything, and the two means are added: a batch has
    many times more negative pairs than positive ones.

    Args:
        margin: distance beyond which negatives are left alone.
        positive_margin: distance below which positives are (0 in the paper).
        squared: the paper's halved squares; otherwise the distances themselves.

    With dot products as the measure the hinges are on these: [positive_margin - s]_+ and
    [s - margin]_+, for instance 0.8 and 0.5.

    Source: Hadsell, Chopra and LeCun, Dimensionality Reduction by Learning an Invariant Mapping,
    CVPR 2006; the averaging is ours.
    """

    measures = ("euclidean", "dot")

    def __init__(self, margin: float = 1.0, positive_margin: float = 0.0, squared: bool = True):
        super().__init__()
        check_number("loss.margin", margin)
        check_number("loss.positive_margin", positive_margin)
        self.margin, self.positive_margin, self.squared = margin, positive_margin, squared
        self.sign = -1.0  # of the thresholds, as similarities

    def set_measure(self, measure: str) -> None:
        """Distances and dot products have thresholds of opposite sign."""
        self.sign = 1.0 if measure == "dot" else -1.0

    def sums(self, rows: AnchorSimilarities) -> list[Sums]:
        """The loss of these rows; a kind of pair that does not occur adds 0."""
        # Beyond rounding: the square root's slope at distance 0 is nothing to follow.
        apart_RP = (self.sign * self.positive_margin - rows.positive_RP).clamp_min(0)
        near_RC = (rows.negative_RC - self.sign * self.margin).clamp_min(0)
        return [
            self._sums(apart_RP, rows.has_positive_RP),
            self._sums(near_RC, rows.has_negative_RC),
        ]

    def _sums(self, excess: torch.Tensor, mask: torch.Tensor) -> Sums:
        values = 0.5 * excess.square() if self.squared else excess
        return masked_sums(values, mask & (excess > 0))
