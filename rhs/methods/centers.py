"""Class centers of the global batch, which every worker holds: nothing of theirs travels in a step.

Every rank computes the same centers from the same rows.
"""

import torch
from torch import nn

from rhs.errors import UserError, check_number
from rhs.methods.class_statistics import ClassSums
from rhs.methods.interfaces import Centers, Signatures


def learns(centers: nn.Module) -> bool:
    """Whether a forward pass changes what is kept: in training mode, and not under no_grad."""
    return centers.training and torch.is_grad_enabled()


def batch_sums(
    x_BD: torch.Tensor, labels_B: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sum the embeddings of each class of the global batch, differentiably.

    Returns:
        (classes [K] sorted, sums [K, D], counts [K, 1], place of each row's class in classes [B])
    """
    classes_K, row_B = torch.unique(labels_B, return_inverse=True)
    one_B1 = torch.ones_like(x_BD[:, :1])
    packed = x_BD.new_zeros(len(classes_K), x_BD.shape[1] + 1)
    packed = packed.index_add(0, row_B, torch.cat([x_BD, one_B1], dim=1))
    return classes_K, packed[:, :-1], packed[:, -1:], row_B


class BatchCenters(nn.Module, Centers):
    """The mean of each class in the global batch; gradients flow through it.

    With two samples a class the mean is the pair's own midpoint, about which the rotation of
    RHS-DML is the identity: it takes three or more samples a class.
    """

    def prepare(self, num_classes: int, dim: int) -> None:
        """Nothing is kept between steps."""

    def forward(self, x_BD: torch.Tensor, labels_B: torch.Tensor) -> torch.Tensor:
        """Centers [B, D], one row for each row of the global batch."""
        _, sums_KD, counts_K1, row_B = batch_sums(x_BD, labels_B)
        return (sums_KD / counts_K1)[row_B]


class LeaveOneOutCenters(nn.Module, Centers):
    """The mean of each class in the global batch without the sample itself, with gradient.

    As the center of a pair it leaves the anchor out. It takes three or more samples a class: with
    two it is the positive, which then does not move. A sample alone in its class is its own center.
    """

    def prepare(self, num_classes: int, dim: int) -> None:
        """Nothing is kept between steps."""

    def forward(self, x_BD: torch.Tensor, labels_B: torch.Tensor) -> torch.Tensor:
        """Centers [B, D], one row for each row of the global batch."""
        _, sums_KD, counts_K1, row_B = batch_sums(x_BD, labels_B)
        alone_B1 = counts_K1[row_B] == 1
        others_BD = sums_KD[row_B] - torch.where(alone_B1, 0.0, x_BD)
        return others_BD / (counts_K1[row_B] - 1).clamp_min(1)


class EMACenters(nn.Module, Centers):
    """A moving average of each class's batch means, without gradient.

    c <- momentum c + (1 - momentum) batch mean, divided by 1 - momentum^t after t updates of that
    class, so that a class seen once has its batch mean for a center. Only rows of classes in the
    batch are touched in a step.

    In evaluation mode or without gradients (`learns`) nothing is updated: centers are as they are,
    and a class that was never seen has its batch mean.

    Args:
        momentum: 0 (the batch mean alone) to below 1 (slow).
    """

    average_CD: torch.Tensor
    updates_C: torch.Tensor

    def __init__(self, momentum: float):
        super().__init__()
        check_number("centers.momentum", momentum)
        if not 0 <= momentum < 1:
            raise UserError(f"centers.momentum is {momentum}; it must be at least 0 and below 1.")
        self.momentum = momentum

    def prepare(self, num_classes: int, dim: int) -> None:
        """Allocate the averages [C, D] and the number of updates [C]; both are checkpointed."""
        self.register_buffer("average_CD", torch.zeros(num_classes, dim))
        self.register_buffer("updates_C", torch.zeros(num_classes, dtype=torch.long))

    def forward(self, x_BD: torch.Tensor, labels_B: torch.Tensor) -> torch.Tensor:
        """Centers [B, D], one row for each row of the global batch; updates the averages first."""
        classes_K, sums_KD, counts_K1, row_B = batch_sums(x_BD.detach(), labels_B)
        mean_KD = (sums_KD / counts_K1).to(self.average_CD.dtype)
        if learns(self):
            average_KD = self.average_CD[classes_K]
            self.average_CD[classes_K] = torch.lerp(mean_KD, average_KD, self.momentum)
            self.updates_C[classes_K] += 1
        seen_K1 = self.updates_C[classes_K, None] > 0
        return torch.where(seen_K1, self.of(classes_K), mean_KD)[row_B].to(x_BD.dtype)

    def of(self, classes_K: torch.Tensor) -> torch.Tensor:
        """The centers [K, D] of classes as they are now; 0 for one that was never seen."""
        updates_K1 = self.updates_C[classes_K, None]
        weight_K1 = 1 - self.momentum ** updates_K1.to(self.average_CD.dtype)
        return self.average_CD[classes_K] / torch.where(updates_K1 > 0, weight_K1, 1.0)


class SubCenters(nn.Module, Centers):
    """Several moving averages a class, for classes with groups inside, without gradient.

    Each row joins the group of its class whose center is nearest to it; that center, after the
    step's update as by EMACenters, is the row's. The center of a pair is that of its anchor. At its
    first sight a class is one group. At each later one the row farthest from its nearest center
    opens a further group, until there are `groups`. Nothing is drawn at random. In evaluation mode
    or without gradients no group is opened, and all is as with EMACenters.

    Args:
        groups: a class's at most; one makes them EMACenters.
        momentum: of the averages.
    """

    def __init__(self, groups: int, momentum: float):
        super().__init__()
        check_number("centers.groups", groups, least=1, most=1000, whole=True)
        self.groups = groups
        self.averages = EMACenters(momentum)

    def prepare(self, num_classes: int, dim: int) -> None:
        """Allocate the averages of all groups; they are checkpointed."""
        self.averages.prepare(num_classes * self.groups, dim)

    def forward(self, x_BD: torch.Tensor, labels_B: torch.Tensor) -> torch.Tensor:
        """Centers [B, D], one row for each row of the global batch; updates the averages first."""
        x_BD = x_BD.detach()
        return self.averages(x_BD, labels_B * self.groups + self._joined(x_BD, labels_B))

    def _joined(self, x_BD: torch.Tensor, labels_B: torch.Tensor) -> torch.Tensor:
        """The group of its class, from 0, that each row joins."""
        group_BG = labels_B[:, None] * self.groups + torch.arange(self.groups).to(labels_B)
        seen_BG = self.averages.updates_C[group_BG] > 0
        open_B = seen_BG.sum(1)
        center_BGD = self.averages.of(group_BG.flatten()).unflatten(0, group_BG.shape)
        away_BG = (x_BD[:, None] - center_BGD).square().sum(2).masked_fill(~seen_BG, torch.inf)
        least_B, nearest_B = away_BG.min(1)
        first_B = _first_largest(least_B, torch.unique(labels_B, return_inverse=True)[1])
        opens_B = first_B & (open_B < self.groups) & learns(self)
        # At first sight nothing is near: all join group 0.
        return torch.where(open_B == 0, 0, torch.where(opens_B, open_B, nearest_B))


def _first_largest(values_B: torch.Tensor, class_B: torch.Tensor) -> torch.Tensor:
    """Whether each value is the largest of its class, the first among equals [B]."""
    count, place_B = len(values_B), torch.arange(len(values_B)).to(class_B)
    largest_B = torch.full_like(values_B, -torch.inf)  # as many classes as rows, at most
    largest_B = largest_B.scatter_reduce(0, class_B, values_B, "amax")[class_B]
    place_B = torch.where(values_B == largest_B, place_B, count)
    first_B = torch.full_like(place_B, count)
    return place_B == first_B.scatter_reduce(0, class_B, place_B, "amin")[class_B]


class EpochCenters(nn.Module, Centers):
    """The mean of each class over the whole training set, without gradient.

    Computed in evaluation mode, without augmentation, before the first epoch and every `every`
    epochs after it; every image counts once.

    Args:
        every: epochs between two computations.
    """

    wants_refresh = True
    center_CD: torch.Tensor

    def __init__(self, every: int = 1):
        super().__init__()
        check_number("centers.every", every, least=1, whole=True)
        self.every = every

    def prepare(self, num_classes: int, dim: int) -> None:
        """Allocate the centers [C, D]; they are checkpointed."""
        self.register_buffer("center_CD", torch.zeros(num_classes, dim))

    def start_refresh(self) -> ClassSums:
        """What the pass over the training set adds its embeddings to."""
        num_classes, dim = self.center_CD.shape
        return ClassSums(num_classes, dim, self.center_CD.device)

    def finish_refresh(self, sums: ClassSums) -> None:
        """Take over the new means; a class without any sample keeps its old one."""
        count_C, mean_CD = sums.mean()
        self.center_CD.copy_(torch.where(count_C[:, None] > 0, mean_CD, self.center_CD.double()))

    def forward(self, x_BD: torch.Tensor, labels_B: torch.Tensor) -> torch.Tensor:
        """Centers [B, D], one row for each row of the global batch."""
        return self.center_CD[labels_B].to(x_BD.dtype)


class SignatureCenters(nn.Module, Centers):
    """Learned proxies: the signatures of the method's `signatures`, which train them.

    Args:
        gradient: let the generator's points move the proxies too, besides the softmax.
    """

    def __init__(self, gradient: bool = False):
        super().__init__()
        self.gradient = gradient

    def prepare(self, num_classes: int, dim: int) -> None:
        """The signatures are kept by the softmax."""

    def forward(self, signatures: Signatures, labels_B: torch.Tensor) -> torch.Tensor:
        """Centers [B, D], of unit length; only the rows of these classes are read."""
        center_BD = signatures.of(labels_B)
        return center_BD if self.gradient else center_BD.detach()
