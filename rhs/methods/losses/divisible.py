"""What the losses of similarities share: the value of all rows, from sums over some."""

import torch
from torch import nn

from rhs.methods.batch import AnchorSimilarities
from rhs.methods.interfaces import DivisibleLoss
from rhs.methods.sums import total_of_means


class RowLoss(nn.Module, DivisibleLoss):
    """A loss that is a sum of means over rows; what inherits it has `sums`."""

    def forward(self, rows: AnchorSimilarities) -> torch.Tensor:
        """The loss, a scalar, of all rows."""
        return total_of_means(self.sums(rows))
