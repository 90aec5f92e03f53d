"""Two generators at once: the points of one take the positives' places, the other's are negatives.

Mirrored points are exactly as near to the anchor as the positives that they come from: they are
good negatives and no harder positives. Rotated points are the other way about.
"""

from dataclasses import replace
from typing import Any

import torch

from rhs.errors import UserError
from rhs.methods.batch import Batch, SyntheticPoints
from rhs.methods.generators.rotation import Rotation
from rhs.methods.generators.symmetric import Symmetric
from rhs.methods.interfaces import Generator


class CombinedGenerators(Generator):
    """Symm + RHS: positives from one generator of points for pairs, negatives from another.

    Args:
        positives: makes what a positive is replaced by, where mining takes the harder of the two or
            the synthetic one; for instance a Rotation.
        negatives: makes what the synthetic roles, or BatchMiner's further negatives, are; for
            instance a Symmetric.

    Raises:
        UserError: a part that is no generator of points for pairs.
    """

    def __init__(self, positives: Any, negatives: Any):
        for name, part in (("positives", positives), ("negatives", negatives)):
            if not isinstance(part, (Rotation, Symmetric)):
                raise UserError(
                    f"generator.{name} is {type(part).__name__}; it must be "
                    "rhs.methods.generators.rotation.Rotation or "
                    "rhs.methods.generators.symmetric.Symmetric."
                )
        self.positives, self.negatives = positives, negatives
        self.needs_centers = positives.needs_centers or negatives.needs_centers
        self.uses_progress = positives.uses_progress or negatives.uses_progress
        self.needs_unit_length = positives.needs_unit_length or negatives.needs_unit_length

    def __call__(
        self, batch: Batch, anchor_N: torch.Tensor, positive_N: torch.Tensor, progress: float
    ) -> SyntheticPoints:
        """Two points a pair, one of each kind."""
        hard = self.positives(batch, anchor_N, positive_N, progress)
        made = self.negatives(batch, anchor_N, positive_N, progress)
        told = made.diagnostics | hard.diagnostics
        return replace(made, positive_MD=hard.x_MD, diagnostics=told)
