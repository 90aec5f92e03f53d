"""How close two embeddings are, as a number that grows with closeness.

Distances come with a minus sign. So mining and losses need one direction only: a harder positive
has a smaller similarity, a harder negative a larger one.
"""

import torch

from rhs.errors import UserError
from rhs.methods.geometry import TINY

MEASURES = ("dot", "euclidean", "squared_euclidean")
NOTHING = -1e30  # similarity of what does not take part: finite, so that gradients are 0, not NaN


def check_measure(measure: str) -> str:
    """Raises UserError unless `measure` is one of MEASURES."""
    if measure not in MEASURES:
        raise UserError(f"method.measure is {measure!r}; it must be one of {', '.join(MEASURES)}.")
    return measure


def matrix(x_RD: torch.Tensor, y_CD: torch.Tensor, measure: str) -> torch.Tensor:
    """Similarity [R, C] of every x to every y: their dot product, or minus their distance."""
    return from_dots(x_RD @ y_CD.T, x_RD, y_CD, measure)


def from_dots(
    dot_RC: torch.Tensor, x_RD: torch.Tensor, y_CD: torch.Tensor, measure: str
) -> torch.Tensor:
    """The same, where the dot products are at hand.

    Distances come from |x|^2 + |y|^2 - 2 x.y. Points closer than its rounding error can tell are at
    distance 0, with gradient 0.
    """
    if measure == "dot":
        return dot_RC
    x2_R1, y2_1C = x_RD.square().sum(1)[:, None], y_CD.square().sum(1)[None, :]
    squared_RC = (x2_R1 + y2_1C).sub(dot_RC, alpha=2)
    return from_squared(squared_RC, x_RD, y_CD, measure)


def from_squared(
    squared_RC: torch.Tensor, x_RD: torch.Tensor, y_CD: torch.Tensor, measure: str
) -> torch.Tensor:
    """The same, from squared distances as they come out of dot products."""
    with torch.no_grad():
        longest = max((z.square().sum(1).max() for z in (x_RD, y_CD) if len(z)), default=TINY)
        floor = torch.as_tensor(16 * torch.finfo(squared_RC.dtype).eps * longest)
    near_RC = squared_RC <= floor.clamp_min(TINY)
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
    near_N = squared_N <= TINY
    return -squared_N.masked_fill(near_N, 1.0).sqrt().masked_fill(near_N, 0.0)
