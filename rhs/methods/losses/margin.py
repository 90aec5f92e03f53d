"""Margin loss with a learned boundary."""

import torch
from torch import nn

from rhs.errors import check_number
from rhs.methods.batch import AnchorSimilarities
from rhs.methods.losses.divisible import RowLoss
from rhs.methods.sums import Sums


class Margin(RowLoss):
    """[d - beta + alpha]_+ for a positive pair, [beta - d + alpha]_+ for a negative one.

    The sum is divided by the number of pairs that add anything. beta is learned along with the
    network: one number, or with `per_class` one more for each class, of the anchor.

    Args:
        alpha: half the width of the band around the boundary.
        beta: the boundary at the start.
        per_class: learn an offset of the boundary for each class too.
        regularization: nu, the weight of the boundary's own size: adds nu times the mean of beta
            over the pairs that count.

    Source: Wu et al., Sampling Matters in Deep Embedding Learning, ICCV 2017, equations 4 to 6
    (without the offset for each image).
    """

    measures = ("euclidean", "squared_euclidean")

    def __init__(
        self,
        alpha: float = 0.2,
        beta: float = 1.2,
        per_class: bool = False,
        regularization: float = 0.0,
    ):
        super().__init__()
        check_number("loss.alpha", alpha, least=0)
        check_number("loss.beta", beta)
        check_number("loss.regularization", regularization, least=0)
        self.alpha, self.per_class, self.regularization = alpha, per_class, regularization
        self.beta = nn.Parameter(torch.tensor(float(beta)))

    def prepare(self, num_classes: int, dim: int) -> None:
        """Allocate the offsets of the classes' boundaries [C, 1], learned row by row."""
        if self.per_class:
            self.offset = nn.Embedding(num_classes, 1, sparse=True)
            nn.init.zeros_(self.offset.weight)

    def learned(self, labels_B: torch.Tensor) -> torch.Tensor:
        """The boundary [B, 1] of each row's class."""
        beta_B1 = self.beta.expand(len(labels_B), 1)
        return beta_B1 + self.offset(labels_B) if self.per_class else beta_B1

    def sums(self, rows: AnchorSimilarities) -> list[Sums]:
        """The loss of these rows."""
        beta_R1 = self.learned(rows.labels_R) if rows.learned_R1 is None else rows.learned_R1
        excess_RP = (self.alpha - rows.positive_RP - beta_R1).clamp_min(0)
        excess_RC = (self.alpha + rows.negative_RC + beta_R1).clamp_min(0)
        lost = self.beta.new_zeros(())
        count = beta = lost
        for excess, mask in ((excess_RP, rows.has_positive_RP), (excess_RC, rows.has_negative_RC)):
            active = mask & (excess > 0)
            lost = lost + torch.where(active, excess, 0.0).sum()
            count = count + active.sum()
            beta = beta + (beta_R1 * active.sum(1, keepdim=True)).sum()
        return [(lost + self.regularization * beta, count)]
