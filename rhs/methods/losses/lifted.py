"""Lifted structured loss: exact, smooth and generalized."""

import torch

from rhs.errors import UserError, check_number
from rhs.methods.batch import AnchorSimilarities
from rhs.methods.losses.divisible import RowLoss
from rhs.methods.similarity import NO_SIMILARITY
from rhs.methods.sums import Sums, masked_sums

FORMS = ("smooth", "exact", "generalized")


class Lifted(RowLoss):
    """Each positive pair against all negatives of both its ends, D being the distance.

    exact:  J_ij = D_ij + max(max_k (margin - D_ik), max_l (margin - D_jl))
    smooth: J_ij = D_ij + log(sum_k exp(margin - D_ik) + sum_l exp(margin - D_jl))
            loss = mean over positive pairs of 1/2 [J_ij]_+^2
    generalized: mean over anchors of [log sum_p exp(D_ap) + log sum_n exp(margin - D_an)]_+

    k and l run over the negatives of i and of j. Rows that stand for a whole pair (of PairMiner)
    have one negative for each other pair, whichever end's it is. Pairs and anchors without a
    negative are left out, and in the generalized form anchors without a positive.

    Sources: Song et al., Deep Metric Learning via Lifted Structured Feature Embedding, CVPR 2016
    (exact: equation 3, smooth: equation 4); Hermans et al., 2017 (generalized).
    """

    measures = ("euclidean", "squared_euclidean", "dot")

    def __init__(self, margin: float = 1.0, form: str = "smooth"):
        super().__init__()
        if form not in FORMS:
            raise UserError(f"loss.form is {form!r}; it must be one of {', '.join(FORMS)}.")
        check_number("loss.margin", margin)
        self.margin, self.form = margin, form
        self.needs_partner = form != "generalized"

    def sums(self, rows: AnchorSimilarities) -> list[Sums]:
        """The loss of these rows."""
        negative_RC = rows.negatives_or_nothing() + self.margin
        some_R1 = rows.has_negative_RC.any(1, keepdim=True)
        if self.form == "generalized":
            apart_RP = (-rows.positive_RP).masked_fill(~rows.has_positive_RP, NO_SIMILARITY)
            excess_R = torch.logsumexp(apart_RP, 1) + torch.logsumexp(negative_RC, 1)
            counted_R = rows.has_positive_RP.any(1) & some_R1[:, 0]
            return [masked_sums(excess_R.clamp_min(0), counted_R)]
        if self.form == "exact":
            end_R1, join = rows.nearest_negative() + self.margin, torch.maximum
        else:
            end_R1, join = torch.logsumexp(negative_RC, 1, keepdim=True), torch.logaddexp
        both_RP = end_R1.expand_as(rows.positive_RP)
        if rows.partner_negative_RP is not None:
            both_RP = join(both_RP, rows.partner_negative_RP + self.margin)
        elif rows.partner_RP is not None:
            both_RP = join(both_RP, end_R1[:, 0][rows.partner_RP])
        excess_RP = (both_RP - rows.positive_RP).clamp_min(0)
        return [masked_sums(0.5 * excess_RP.square(), rows.has_positive_RP & some_R1)]

    def joined_negatives(self, rows: AnchorSimilarities) -> torch.Tensor:
        """The similarity [R, 1] that stands for all of a row's negatives: the largest, or their
        log-sum-exp."""
        if self.form == "exact":
            return rows.nearest_negative()
        return torch.logsumexp(rows.negatives_or_nothing(), 1, keepdim=True)
