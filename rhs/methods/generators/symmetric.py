"""Symmetrical Synthesis: the positive mirrored about the line of its anchor."""

import torch

from rhs.errors import check_number
from rhs.methods.batch import Batch, SyntheticPoints
from rhs.methods.generators import geometry
from rhs.methods.interfaces import Generator


class Symmetric(Generator):
    """Symmetrical Synthesis: mirror the positive about the line of the anchor.

    x' = beta (alpha proj - x), where proj is the positive's projection on the anchor.

    Source: Gu and Ko, AAAI 2020 (alpha = 2 and beta = 1 in the paper).
    """

    def __init__(self, alpha: float = 2.0, beta: float = 1.0):
        check_number("generator.alpha", alpha)
        check_number("generator.beta", beta)
        self.alpha, self.beta = alpha, beta

    def __call__(
        self, batch: Batch, anchor_N: torch.Tensor, positive_N: torch.Tensor, progress: float
    ) -> SyntheticPoints:
        """One point a pair: the mirrored positive."""
        a_ND, p_ND = batch.x_BD.index_select(0, anchor_N), batch.x_BD.index_select(0, positive_N)
        along_N = (p_ND * a_ND).sum(1) / a_ND.square().sum(1).clamp_min(geometry.EPSILON)
        own_N = torch.full_like(along_N, -self.beta)
        weights_N2 = torch.stack([self.beta * self.alpha * along_N, own_N], dim=1)
        made_ND = geometry.reflect(p_ND, a_ND, self.alpha, self.beta)
        return SyntheticPoints(made_ND, batch.labels_B[anchor_N], positive_N, anchor_N, weights_N2)
