"""What a batch tells about the embedding: are classes tight, have they collapsed to a point?"""

import torch

from rhs.methods.batch import HARDER
from rhs.methods.sums import Sums, masked_sums

ROWS = 128  # of the batch, at most, for the effective rank: a small product at any batch size


@torch.no_grad()
def of_batch(x_BD: torch.Tensor, labels_B: torch.Tensor) -> dict[str, torch.Tensor]:
    """The two numbers below, by name."""
    return {
        "intra_inter_ratio": intra_inter_ratio(x_BD, labels_B),
        "effective_rank": effective_rank(x_BD),
    }


@torch.no_grad()
def hardness(gained_N: torch.Tensor, counts_N: torch.Tensor | None = None) -> dict[str, Sums]:
    """How much harder synthetic positives are, by name: the mean gain, and the share that gain.

    Args:
        gained_N: similarity of the original positive to its anchor, minus that of the synthetic.
        counts_N: which entries count; None: all.
    """
    if counts_N is None:
        counts_N = torch.ones_like(gained_N, dtype=torch.bool)
    return {
        "hardness_gained": masked_sums(gained_N, counts_N),
        "synthetic_harder": masked_sums((gained_N > HARDER).to(gained_N.dtype), counts_N),
    }


def intra_inter_ratio(x_BD: torch.Tensor, labels_B: torch.Tensor) -> torch.Tensor:
    """Root mean squared distance within classes over that between classes; 0: total collapse of
    each class, 1: classes are no nearer than chance. 0 where there are no two classes.

    From sums, in B D operations: over all ordered pairs of n points the squared distances add up
    to 2 (n sum |x|^2 - |sum x|^2).
    """
    _, class_B, count_K = torch.unique(labels_B, return_inverse=True, return_counts=True)
    rounding = _rounding(x_BD)
    x_BD = x_BD - x_BD.mean(0)  # distances stay; large means would cost digits
    sums_KD = x_BD.new_zeros(len(count_K), x_BD.shape[1]).index_add(0, class_B, x_BD)
    squares_B = x_BD.square().sum(1)
    squares_K = x_BD.new_zeros(len(count_K)).index_add(0, class_B, squares_B)
    within = 2 * (count_K * squares_K - sums_KD.square().sum(1)).sum().clamp_min(0)
    total = 2 * len(x_BD) * squares_B.sum()
    pairs_within = (count_K * (count_K - 1)).sum()
    pairs_between = len(x_BD) * (len(x_BD) - 1) - pairs_within
    intra = within / pairs_within.clamp_min(1)
    inter = (total - within) / pairs_between.clamp_min(1)
    defined = (pairs_between > 0) & (squares_B.sum() > rounding)
    return torch.where(defined, intra / torch.where(defined, inter, 1.0), 0.0).sqrt()


def effective_rank(x_BD: torch.Tensor) -> torch.Tensor:
    """Participation ratio of the covariance's eigenvalues: (sum)^2 / sum of squares.

    D for a cloud as wide in all directions, 1 for one on a line, 0 for a point. Needs no
    eigenvalues: both sums are norms of the products of the centered points. Of at most ROWS rows,
    evenly spaced.
    """
    x_BD = x_BD[:: -(-len(x_BD) // ROWS)]
    rounding = _rounding(x_BD)
    x_BD = x_BD - x_BD.mean(0)
    product = x_BD @ x_BD.T if len(x_BD) < x_BD.shape[1] else x_BD.T @ x_BD
    squares = product.square().sum()
    defined = product.diagonal().sum() > rounding
    ratio = product.diagonal().sum().square() / torch.where(defined, squares, 1.0)
    return torch.where(defined, ratio, 0.0)


def _rounding(x_BD: torch.Tensor) -> torch.Tensor:
    """The sum of squares that centering leaves of points that are all the same, at most."""
    return (8 * torch.finfo(x_BD.dtype).eps) ** 2 * x_BD.square().sum()
