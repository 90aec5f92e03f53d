"""Angular loss."""

import math

import torch
import torch.nn.functional as F

from rhs.errors import UserError, check_number
from rhs.methods.batch import AnchorSimilarities
from rhs.methods.losses.divisible import RowLoss
from rhs.methods.sums import Sums, masked_sums


class Angular(RowLoss):
    """Bound the angle at a negative of the triangle it makes with a positive pair.

    Mean over pairs of log(1 + sum over negatives of exp(scale f)), with
    f = 4 tan^2(angle) (a + p) . n - 2 (1 + tan^2(angle)) a . p.

    The rows hold (a + p) . n as negatives (`both_ends` of rhs.methods.mining.pairs.PairMiner).

    Args:
        angle: in degrees, 36 to 55 in the paper.
        scale: 1 / temperature, for normalized embeddings.

    Source: Wang et al., Deep Metric Learning with Angular Loss, ICCV 2017, equations 7 and 8; the
    scale is ours.
    """

    measures = ("dot",)
    both_ends = True

    def __init__(self, angle: float = 45.0, scale: float = 1.0):
        super().__init__()
        check_number("loss.scale", scale, above=0)
        check_number("loss.angle", angle)
        if not 0 < angle < 90:
            raise UserError(f"loss.angle is {angle}; it is in degrees, between 0 and 90.")
        self.tan2, self.scale = math.tan(math.radians(angle)) ** 2, scale

    def sums(self, rows: AnchorSimilarities) -> list[Sums]:
        """The loss of these rows."""
        negative_R1 = torch.logsumexp(
            4 * self.tan2 * self.scale * rows.negatives_or_nothing(), dim=1, keepdim=True
        )
        positive_RP = 2 * (1 + self.tan2) * self.scale * rows.positive_RP
        return [masked_sums(F.softplus(negative_R1 - positive_RP), rows.has_positive_RP)]
