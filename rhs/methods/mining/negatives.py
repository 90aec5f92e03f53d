"""Which negatives an anchor takes, as indices; nothing here has a gradient.

Random numbers come from torch's CPU generator, which the training loop seeds anew for each step, so
that every rank and every world size draws the same.
"""

from collections.abc import Sequence

import torch

from rhs.methods.batch import AnchorSimilarities
from rhs.methods.similarity import NO_SIMILARITY

NEAREST = 0.5  # nearer, the inverse density would give all weight to one sample (Wu et al.)


def uniform(shape: Sequence[int], like: torch.Tensor) -> torch.Tensor:
    """Uniform random numbers in [0, 1), where and as exact as another tensor."""
    return torch.rand(*shape).to(like.device, like.dtype)


def extreme(rows: AnchorSimilarities, which: str) -> torch.Tensor:
    """The index [R, 1] of each anchor's nearest (`hardest`) or farthest (`easy`) negative."""
    sign = 1 if which == "hardest" else -1
    score_RC = (sign * rows.negative_RC).masked_fill(~rows.has_negative_RC, 2 * NO_SIMILARITY)
    return score_RC.argmax(1, keepdim=True)


def semi_hard(rows: AnchorSimilarities) -> torch.Tensor:
    """The index [R, P] of the nearest negative that is farther than each positive.

    Where no negative is farther than the positive: the farthest of all.
    """
    ordered_RC, index_RC = rows.negative_RC.masked_fill(~rows.has_negative_RC, -NO_SIMILARITY).sort(
        1
    )
    below_RP = torch.searchsorted(ordered_RC, rows.positive_RP.contiguous())
    return index_RC.gather(1, (below_RP - 1).clamp_min(0))


def drawn(
    rows: AnchorSimilarities, noise_RP: torch.Tensor, measure: str, dim: int | None = None
) -> torch.Tensor:
    """The index [R, P] of a random negative for each positive.

    Args:
        noise_RP: uniform random numbers, by which they are drawn.
        dim: None draws uniformly. Otherwise the dimension D of unit embeddings: a negative at
            distance d is drawn with a probability in proportion to 1 / q(d), where
            q(d) = d^(D-2) (1 - d^2/4)^((D-3)/2) is how distances are distributed on the sphere.

    Source: Wu et al., Sampling Matters in Deep Embedding Learning, ICCV 2017, equation 3.
    """
    has_RC = rows.has_negative_RC
    if dim is None:
        weight_RC = has_RC.to(rows.positive_RP.dtype)
    else:
        log_RC = inverse_density(_distance(rows.negative_RC, measure), dim)
        log_RC = log_RC.masked_fill(~has_RC, NO_SIMILARITY)
        weight_RC = (log_RC - log_RC.amax(1, keepdim=True)).exp()
    cumulative_RC = weight_RC.cumsum(1)
    at_RP = noise_RP * cumulative_RC[:, -1:]
    # The first place above a share of the total is one of positive weight.
    found_RP = torch.searchsorted(cumulative_RC, at_RP, right=True)
    return found_RP.clamp_max(has_RC.shape[1] - 1)


def inverse_density(distance: torch.Tensor, dim: int) -> torch.Tensor:
    """log 1 / q(d) of distances between unit vectors of dimension `dim`, d taken as >= NEAREST."""
    d = distance.clamp(min=NEAREST)
    across = (1 - 0.25 * d.square()).clamp_min(1e-8)
    return -(dim - 2) * d.log() - 0.5 * (dim - 3) * across.log()


def _distance(similarity: torch.Tensor, measure: str) -> torch.Tensor:
    """Distances between unit vectors, from their similarities."""
    if measure == "euclidean":
        return -similarity
    squared = -similarity if measure == "squared_euclidean" else 2 - 2 * similarity
    return squared.clamp_min(0).sqrt()
