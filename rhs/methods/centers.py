"""Class centers of the global batch, from sums and counts all-reduced across workers.

What travels is one row of sums and one count for each class in the batch, whatever the number of
classes in the data set. Every rank ends up with the same centers.
"""

import torch
from torch import nn

from rhs import distributed
from rhs.errors import UserError


def batch_sums(
    x_local_bD: torch.Tensor, labels_local_b: torch.Tensor, labels_B: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sum the embeddings of each class over all ranks, differentiably.

    Args:
        x_local_bD: this rank's embeddings.
        labels_local_b: their labels.
        labels_B: the labels of the whole batch, the same on every rank.

    Returns:
        (classes [K] sorted, sums [K, D], counts [K, 1], place of each row's class in classes [B])
    """
    classes_K, row_B = torch.unique(labels_B, return_inverse=True)
    row_local_b = torch.searchsorted(classes_K, labels_local_b)
    one_b1 = torch.ones_like(x_local_bD[:, :1])
    packed = x_local_bD.new_zeros(len(classes_K), x_local_bD.shape[1] + 1)
    packed = packed.index_add(0, row_local_b, torch.cat([x_local_bD, one_b1], dim=1))
    packed = distributed.all_reduce_sum(packed)
    return classes_K, packed[:, :-1], packed[:, -1:], row_B


class BatchCenters(nn.Module):
    """The mean of each class in the global batch; gradients flow through it.

    With two samples a class the mean is the pair's own midpoint, about which the rotation of
    RHS-DML is the identity: it takes three or more samples a class.
    """

    def prepare(self, num_classes: int, dim: int) -> None:
        """Nothing is kept between steps."""

    def forward(self, x_local_bD, labels_local_b, labels_B) -> torch.Tensor:
        """Centers [B, D], one row for each row of the global batch."""
        _, sums_KD, counts_K1, row_B = batch_sums(x_local_bD, labels_local_b, labels_B)
        return (sums_KD / counts_K1)[row_B]


class EMACenters(nn.Module):
    """A moving average of each class's batch means, without gradient.

    c <- momentum c + (1 - momentum) batch mean, divided by 1 - momentum^t after t updates of that
    class, so that a class seen once has its batch mean for a center. Only rows of classes in the
    batch are touched in a step.

    Args:
        momentum: 0 (the batch mean alone) to below 1 (slow).
    """

    average_CD: torch.Tensor
    updates_C: torch.Tensor

    def __init__(self, momentum: float):
        super().__init__()
        if not 0 <= momentum < 1:
            raise UserError(f"centers.momentum is {momentum}; it must be at least 0 and below 1.")
        self.momentum = momentum

    def prepare(self, num_classes: int, dim: int) -> None:
        """Allocate the averages [C, D] and the number of updates [C]; both are checkpointed."""
        self.register_buffer("average_CD", torch.zeros(num_classes, dim))
        self.register_buffer("updates_C", torch.zeros(num_classes, dtype=torch.long))

    @torch.no_grad()
    def forward(self, x_local_bD, labels_local_b, labels_B) -> torch.Tensor:
        """Centers [B, D], one row for each row of the global batch; updates the averages first."""
        classes_K, sums_KD, counts_K1, row_B = batch_sums(x_local_bD, labels_local_b, labels_B)
        mean_KD = (sums_KD / counts_K1).to(self.average_CD.dtype)
        self.average_CD[classes_K] = torch.lerp(mean_KD, self.average_CD[classes_K], self.momentum)
        self.updates_C[classes_K] += 1
        weight_K1 = 1 - self.momentum ** self.updates_C[classes_K, None].to(mean_KD.dtype)
        return (self.average_CD[classes_K] / weight_K1)[row_B].to(x_local_bD.dtype)
