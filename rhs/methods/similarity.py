"""How close two embeddings are, as a number that grows with closeness.

Distances come with a minus sign. So mining and losses need one direction only: a harder positive
has a smaller similarity, a harder negative a larger one.
"""

import torch

from rhs.errors import UserError
from rhs.methods.ops.fused_rotation import EPSILON
from rhs.methods.ops.pairwise_distance import ROUNDING, _Distances

MEASURES = ("dot", "euclidean", "squared_euclidean")
NO_SIMILARITY = (
    -1e30
)  # similarity of what does not take part: finite, so that gradients are 0, not NaN


def check_measure(measure: str) -> str:
    """Raises UserError unless `measure` is one of MEASURES."""
    if measure not in MEASURES:
        raise UserError(f"method.measure is {measure!r}; it must be one of {', '.join(MEASURES)}.")
    return measure


def matrix(x_RD: torch.Tensor, y_CD: torch.Tensor, measure: str) -> torch.Tensor:
    """Similarity [R, C] of every x to every y: their dot product, or minus their distance.

    Distances come from |x|^2 + |y|^2 - 2 x.y, about the mean of y, which they do not see but their
    rounding does. Points closer than rounding can tell are at distance 0, with gradient 0.
    """
    if measure == "dot" or not len(y_CD):
        return x_RD @ y_CD.T
    middle_D = y_CD.detach().mean(0)
    x_RD, y_CD = x_RD - middle_D, y_CD - middle_D
    return _Distances.apply(x_RD, y_CD, measure == "euclidean")


def from_squared(squared_RC: torch.Tensor, lengths2_RC: torch.Tensor, measure: str) -> torch.Tensor:
    """Minus the distance, or its square, from squared distances as dot products give them.

    Args:
        lengths2_RC: the sum of the squared lengths that they were computed from, or a bound of it.
    """
    floor_RC = ROUNDING * torch.finfo(squared_RC.dtype).eps * lengths2_RC.detach()
    near_RC = squared_RC <= floor_RC
    if measure == "squared_euclidean":
        return -squared_RC.masked_fill(near_RC, 0.0)
    return -squared_RC.masked_fill(near_RC, 1.0).sqrt().masked_fill(near_RC, 0.0)


def rowwise(x_ND: torch.Tensor, y_ND: torch.Tensor, measure: str) -> torch.Tensor:
    """Similarity of each x to the y of its row; leading dimensions may be any."""
    if measure == "dot":
        return (x_ND * y_ND).sum(-1)
    squared_N = (x_ND - y_ND).square().sum(-1)
    if measure == "squared_euclidean":
        return -squared_N
    near_N = squared_N <= EPSILON
    return -squared_N.masked_fill(near_N, 1.0).sqrt().masked_fill(near_N, 0.0)
