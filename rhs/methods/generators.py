"""Hard-sample generators: from a pair of one class, and its center, to a synthetic point.

A generator is called as `generator(anchor_ND, positive_ND, center_ND, progress)` and returns [N, D]
points, one for each row: row i belongs to the class of row i, descends from positive i and was made
against anchor i. `progress` is the share of training done, 0 to 1. Which pairs there are, and what
the points compete with, is not a generator's concern (see mining.py).
"""

import torch

from rhs.errors import UserError
from rhs.methods import geometry


class Rotation:
    """RHS-DML: rotate the positive about its class center, away from the anchor.

    Args:
        start, end: the fraction of the full rotation at the start and the end of training; it
            changes linearly. `start = end = 1` is the paper's rotation.

    Source: Zhang et al., J. Shanxi Univ. (Nat. Sci.) 47(5), 2024; the schedule is ours.
    """

    needs_centers = True

    def __init__(self, start: float = 1.0, end: float = 1.0):
        for name, value in (("start", start), ("end", end)):
            if not 0 <= value <= 1:
                raise UserError(f"generator.{name} is {value}; a fraction is between 0 and 1.")
        self.start, self.end = start, end

    def __call__(self, anchor_ND, positive_ND, center_ND, progress: float) -> torch.Tensor:
        fraction = self.start + (self.end - self.start) * progress
        return geometry.rotate(anchor_ND, positive_ND, center_ND, fraction)


class Symmetric:
    """Symmetrical Synthesis: mirror the positive about the line of the anchor.

    Source: Gu and Ko, AAAI 2020 (alpha = 2 and beta = 1 in the paper).
    """

    needs_centers = False

    def __init__(self, alpha: float = 2.0, beta: float = 1.0):
        self.alpha, self.beta = alpha, beta

    def __call__(self, anchor_ND, positive_ND, center_ND, progress: float) -> torch.Tensor:
        return geometry.reflect(positive_ND, anchor_ND, self.alpha, self.beta)
