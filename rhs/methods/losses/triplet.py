"""Triplet loss over all triples of the rows."""

from rhs.errors import UserError, check_number
from rhs.methods.batch import AnchorSimilarities
from rhs.methods.losses.divisible import RowLoss
from rhs.methods.losses.triplet_sums import hinge_triples, soft_triples
from rhs.methods.sums import Sums


class Triplet(RowLoss):
    """Mean of [d(a, p) - d(a, n) + margin]_+ over the triples where it is above 0.

    Args:
        margin: of the hinge, in units of the measure; None takes the soft margin
            log(1 + exp(d(a, p) - d(a, n))), averaged over all triples.
        average: `active` divides by the number of triples above 0, `all` by that of all.

    Sources: Schroff et al., FaceNet, CVPR 2015 (squared distances); Hermans et al., In Defense of
    the Triplet Loss, 2017 (soft margin, hardest of the batch).
    """

    measures = ("dot", "euclidean", "squared_euclidean")

    def __init__(self, margin: float | None = 0.2, average: str = "active"):
        super().__init__()
        if average not in ("active", "all"):
            raise UserError(f"loss.average is {average!r}; it must be active or all.")
        if margin is not None:
            check_number("loss.margin", margin, least=0)
        self.margin, self.average = margin, average

    def sums(self, rows: AnchorSimilarities) -> list[Sums]:
        """The loss of these rows; 0 where there is no triple."""
        if self.margin is None:
            lost, count = soft_triples(rows)
        else:
            lost, count = hinge_triples(rows, self.margin)
            if self.average == "all":
                count = (rows.has_positive_RP.sum(1) * rows.has_negative_RC.sum(1)).sum()
        return [(lost, count)]
