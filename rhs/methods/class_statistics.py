"""Mean and variance of every class over the whole training set, from sums all-reduced once."""

import torch

from rhs.distributed import collectives


class ClassSums:
    """Counts, sums and sums of squares of each class, in float64 so that the order of summation,
    which depends on the number of workers, leaves no trace that a float32 result could show.

    Args:
        num_classes, dim: C and D.
        squares: also keep sums of squares.
    """

    def __init__(self, num_classes: int, dim: int, device: torch.device, squares: bool = False):
        width = 1 + dim * (2 if squares else 1)
        self.dim, self.squares = dim, squares
        self.sums = torch.zeros(num_classes, width, dtype=torch.float64, device=device)

    def add(self, x_bD: torch.Tensor, labels_b: torch.Tensor) -> None:
        """Count some of this rank's samples."""
        x_bD = x_bD.double()
        parts = [torch.ones_like(x_bD[:, :1]), x_bD, *([x_bD.square()] if self.squares else [])]
        self.sums.index_add_(0, labels_b, torch.cat(parts, dim=1))

    def mean(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Counts [C] and means [C, D] over all ranks; the mean of an empty class is 0."""
        total = collectives.all_reduce_sum(self.sums)
        count_C = total[:, 0]
        return count_C, total[:, 1 : 1 + self.dim] / count_C.clamp_min(1)[:, None]

    def moments(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Counts [C], means [C, D] and variances [C, D] (divided by n) over all ranks."""
        total = collectives.all_reduce_sum(self.sums)
        count_C = total[:, 0]
        means = total[:, 1:] / count_C.clamp_min(1)[:, None]
        mean_CD, square_CD = means[:, : self.dim], means[:, self.dim :]
        return count_C, mean_CD, (square_CD - mean_CD.square()).clamp_min(0)
