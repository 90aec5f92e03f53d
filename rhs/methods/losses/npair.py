"""N-pair losses: multi-class and one-versus-one."""

import torch
import torch.nn.functional as F

from rhs.errors import UserError, check_number
from rhs.methods.batch import AnchorSimilarities
from rhs.methods.losses.divisible import RowLoss
from rhs.methods.losses.triplet_sums import soft_triples
from rhs.methods.sums import Sums, masked_sums


class NPair(RowLoss):
    """Push the similarity of a positive above those of all negatives at once, or of each.

    mc:  mean over positives of log(1 + sum over negatives of exp(scale (negative - positive)))
    ovo: mean over positives of sum over negatives of log(1 + exp(scale (negative - positive)))

    A positive without any negative adds 0.

    Args:
        form: `mc` (multi-class) or `ovo` (one versus one).
        scale: 1 / temperature. Un-normalized embeddings (the paper's) learn it by growing; for
            normalized ones it must be a number well above 1.

    Source: Sohn, Improved Deep Metric Learning with Multi-class N-pair Loss Objective, NIPS 2016,
    equations 6 and 7; the scale is ours.
    """

    measures = ("dot", "euclidean", "squared_euclidean")

    def __init__(self, scale: float = 1.0, form: str = "mc"):
        super().__init__()
        if form not in ("mc", "ovo"):
            raise UserError(f"loss.form is {form!r}; it must be mc or ovo.")
        check_number("loss.scale", scale, above=0)
        self.scale, self.form = scale, form

    def sums(self, rows: AnchorSimilarities) -> list[Sums]:
        """The loss of these rows."""
        if self.form == "ovo":
            return [(soft_triples(rows, self.scale)[0], rows.has_positive_RP.sum())]
        negative_R1 = torch.logsumexp(self.scale * rows.negatives_or_nothing(), dim=1, keepdim=True)
        excess_RP = F.softplus(negative_R1 - self.scale * rows.positive_RP)
        return [masked_sums(excess_RP, rows.has_positive_RP)]
