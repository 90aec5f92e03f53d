"""Multi-similarity loss."""

import torch
import torch.nn.functional as F

from rhs.errors import check_number
from rhs.methods.batch import AnchorSimilarities
from rhs.methods.losses.divisible import RowLoss
from rhs.methods.similarity import NO_SIMILARITY
from rhs.methods.sums import Sums


class MultiSimilarity(RowLoss):
    """Mean over anchors of
    1/alpha log(1 + sum_p exp(-alpha (S_ap - base))) + 1/beta log(1 + sum_n exp(beta (S_an - base)))

    Args:
        alpha: sharpness on positives.
        beta: sharpness on negatives.
        base: the similarity, lambda in the paper, that positives should exceed and negatives not.
        margin: keep only positives less similar than the most similar negative plus margin, and
            negatives more similar than the least similar positive less margin (the paper's pair
            mining); None keeps all.

    Source: Wang et al., Multi-Similarity Loss with General Pair Weighting, CVPR 2019, equations 11,
    12 and 15.
    """

    measures = ("dot",)

    def __init__(
        self,
        alpha: float = 2.0,
        beta: float = 50.0,
        base: float = 0.5,
        margin: float | None = 0.1,
    ):
        super().__init__()
        check_number("loss.alpha", alpha, above=0)
        check_number("loss.beta", beta, above=0)
        check_number("loss.base", base)
        if margin is not None:
            check_number("loss.margin", margin)
        self.alpha, self.beta, self.base, self.margin = alpha, beta, base, margin

    def sums(self, rows: AnchorSimilarities) -> list[Sums]:
        """The loss of these rows; anchors that keep no pair count as 0."""
        positive_RP, negative_RC = rows.positive_RP, rows.negative_RC
        has_positive_RP, has_negative_RC = rows.has_positive_RP, rows.has_negative_RC
        if self.margin is not None:
            least_R1 = positive_RP.masked_fill(~has_positive_RP, -NO_SIMILARITY).amin(
                1, keepdim=True
            )
            most_R1 = rows.nearest_negative()
            has_positive_RP = has_positive_RP & (positive_RP < most_R1 + self.margin)
            has_negative_RC = has_negative_RC & (negative_RC > least_R1 - self.margin)
        pulled_R = _log1p_sum(-self.alpha * (positive_RP - self.base), has_positive_RP)
        pushed_R = _log1p_sum(self.beta * (negative_RC - self.base), has_negative_RC)
        each_R = pulled_R / self.alpha + pushed_R / self.beta
        return [(each_R.sum(), torch.full_like(rows.labels_R, 1).sum())]


def _log1p_sum(exponent_RC: torch.Tensor, mask_RC: torch.Tensor) -> torch.Tensor:
    """log(1 + sum of the exponentials of the masked entries) of each row."""
    kept_RC = exponent_RC.masked_fill(~mask_RC, NO_SIMILARITY)
    return F.softplus(torch.logsumexp(kept_RC, dim=1))
