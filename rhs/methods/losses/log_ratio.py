"""Log-ratio loss for continuous labels."""

import torch
from torch import nn

from rhs.errors import UserError
from rhs.methods.interfaces import ContinuousLoss, DivisibleLabelLoss
from rhs.methods.similarity import matrix
from rhs.methods.sums import Sums, masked_sums, total_of_means
from rhs.methods.tiles import WHOLE, RowSums, Shares, rows_of


class LogRatio(nn.Module, ContinuousLoss, DivisibleLabelLoss):
    """Make ratios of distances between embeddings equal to those between labels.

    For an anchor a and two others i and j:
    (log D(f_a, f_i) / D(f_a, f_j) - log D(y_a, y_i) / D(y_a, y_j))^2, D the squared distance,
    averaged over the pairs {i, j} of each anchor and then over the anchors. With
    z_i = log D(f_a, f_i) - log D(y_a, y_i) that is the sum of squared differences of the z_i, which
    their first two moments give: the memory is B^2, not B^3.

    Samples whose label is the anchor's own have no ratio and are left out, and so are anchors left
    with fewer than two others.

    Args:
        smallest: what is added to squared distances before their logarithm.

    Source: Kim et al., Deep Metric Learning Beyond Binary Supervision, CVPR 2019, equation 5.
    """

    values_CL: torch.Tensor

    def __init__(self, smallest: float = 1e-12):
        super().__init__()
        self.smallest = smallest

    def prepare(
        self,
        num_classes: int,
        dim: int,
        values_CL: torch.Tensor | None = None,
        images_have_values: bool = False,
    ) -> None:
        """Take the continuous label [L] of each class, unless every image has one of its own."""
        if values_CL is None and not images_have_values:
            raise UserError(
                "The log-ratio loss compares continuous labels, and this data set has none: name "
                "each class folder by a number, such as an age, or name columns of a table "
                "(dataset=table dataset.fetch.values=[...]), or take another method."
            )
        self.register_buffer("values_CL", values_CL)

    def forward(
        self, x_BD: torch.Tensor, labels_B: torch.Tensor, y_BL: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The loss of embeddings and their continuous labels [B, L], or those of their classes."""
        return total_of_means(self.row_sums(x_BD, labels_B, y_BL, WHOLE).sums(slice(None)))

    def row_sums(
        self,
        x_BD: torch.Tensor,
        labels_B: torch.Tensor,
        values_BL: torch.Tensor | None,
        shares: Shares,
    ) -> RowSums:
        """The loss of any of the anchors."""
        y_BL = self.values_CL[labels_B] if values_BL is None else values_BL
        return RowSums(
            len(x_BD), len(x_BD) * y_BL.shape[1], lambda rows: self._sums(x_BD, y_BL, rows)
        )

    def of_values(self, x_BD: torch.Tensor, y_BL: torch.Tensor) -> torch.Tensor:
        """The loss of embeddings and continuous labels [B, L] of their own."""
        return total_of_means(self._sums(x_BD, y_BL, slice(None)))

    def _sums(self, x_BD: torch.Tensor, y_BL: torch.Tensor, rows: slice) -> list[Sums]:
        embedded_RB = -matrix(rows_of(x_BD, rows), x_BD, "squared_euclidean")
        labelled_RB = (y_BL[rows, None, :] - y_BL[None, :, :]).square().sum(2)
        counts_RB = labelled_RB > 0
        log_labelled_RB = torch.where(counts_RB, labelled_RB, 1.0).log().to(x_BD.dtype)
        z_RB = (embedded_RB + self.smallest).log() - log_labelled_RB
        z_RB = torch.where(counts_RB, z_RB, 0.0)
        n_R = counts_RB.sum(1)
        mean_R1 = z_RB.sum(1, keepdim=True) / n_R[:, None].clamp_min(1)
        # The sum over pairs of squared differences is n times that of squared deviations.
        squares_R = torch.where(counts_RB, z_RB - mean_R1, 0.0).square().sum(1)
        per_anchor_R = 2 * squares_R / (n_R - 1).clamp_min(1)
        return [masked_sums(per_anchor_R, n_R >= 2)]
