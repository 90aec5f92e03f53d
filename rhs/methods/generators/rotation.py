"""RHS-DML's generator: positives rotated away from their anchors, see geometry.rotation.

A generator is called as `generator(batch, anchor_N, positive_N, progress)`: the batch, N pairs of
its rows that share a class, and the share of training done, 0 to 1. Which pairs there are, and what
the points compete with, is the miner's concern (rhs/methods/mining/).
"""

import math

import torch

from rhs.errors import UserError, check_number
from rhs.methods.batch import Batch, SyntheticPoints
from rhs.methods.generators import geometry
from rhs.methods.interfaces import Generator

SURFACES = ("euclidean", "renormalized", "spherical")
SCHEDULES = ("constant", "linear", "cosine")
GRADIENTS = ("full", "center_detached", "positive", "anchor")
ROTATED = ("all", "same_side")


class Rotation(Generator):
    """RHS-DML: rotate the positive about its class center, away from the anchor.

    Args:
        start: the fraction of the full rotation when training starts.
        end: the fraction when it ends. `start = end = 1` is the paper's rotation.
        schedule: how the fraction goes from start to end: `linear`, `cosine` (slow, fast, slow), or
            `constant` (`end` throughout).
        surface: `euclidean` rotates in the space around the center (the paper; points may leave the
            unit sphere a little), `renormalized` puts the result back on the unit sphere,
            `spherical` rotates on the sphere about the axis of the center.
        gradient: through which of its arguments the point passes gradients on: `full` all three,
            `center_detached` anchor and positive, `positive` only that (it moves toward or from the
            center), `anchor` none: only the anchor that is compared with the point moves.
        delay: share of training, below 1, before the rotation begins; until then the points are the
            positives themselves, with their gradients, and the schedule runs over the rest.
        only: which positives are rotated: `all`, or those on the `same_side` of the center as
            their anchors (geometry.same_side); the others stay, with their gradients.

    Source: Zhang et al., J. Shanxi Univ. (Nat. Sci.) 47(5), 2024, for the full Euclidean rotation;
    the rest is ours.
    """

    needs_centers = True

    def __init__(
        self,
        start: float = 1.0,
        end: float = 1.0,
        schedule: str = "linear",
        *,
        surface: str = "euclidean",
        gradient: str = "full",
        delay: float = 0.0,
        only: str = "all",
    ):
        for name, value in (("start", start), ("end", end)):
            check_number(f"generator.{name}", value, least=0, most=1)
        check_number("generator.delay", delay)
        if not 0 <= delay < 1:
            raise UserError(f"generator.delay is {delay}; it must be at least 0 and below 1.")
        for name, text, known in (
            ("schedule", schedule, SCHEDULES),
            ("surface", surface, SURFACES),
            ("gradient", gradient, GRADIENTS),
            ("only", only, ROTATED),
        ):
            if text not in known:
                raise UserError(f"generator.{name} is {text!r}; it must be one of {known}.")
        self.start, self.end, self.schedule = start, end, schedule
        self.surface, self.gradient, self.delay, self.only = surface, gradient, delay, only
        self.needs_unit_length = surface == "renormalized"
        self.uses_progress = delay > 0 or (schedule != "constant" and start != end)

    def fraction(self, progress: float) -> float:
        """The fraction of the full rotation when `progress` of the training is done."""
        if progress < self.delay:
            return 0.0
        if self.schedule == "constant":
            return self.end
        progress = (progress - self.delay) / (1 - self.delay)
        if self.schedule == "cosine":
            progress = 0.5 * (1 - math.cos(math.pi * progress))
        return self.start + (self.end - self.start) * progress

    def __call__(
        self, batch: Batch, anchor_N: torch.Tensor, positive_N: torch.Tensor, progress: float
    ) -> SyntheticPoints:
        """One point a pair: the rotated positive."""
        assert batch.centers_BD is not None, "the objective provides centers"
        a_ND, p_ND = batch.x_BD.index_select(0, anchor_N), batch.x_BD.index_select(0, positive_N)
        c_ND = batch.centers_BD.index_select(0, anchor_N)
        rotated_ND, moved_N, chosen_N = self.points(a_ND, p_ND, c_ND, progress)
        rows = max(1, len(moved_N))
        diagnostics = {"rotations_unmoved": (~moved_N).to(a_ND.dtype).sum() / rows}
        if chosen_N is not None:
            diagnostics["rotations_chosen"] = chosen_N.to(a_ND.dtype).sum() / rows
        labels_N = batch.labels_B[anchor_N]
        return SyntheticPoints(rotated_ND, labels_N, positive_N, anchor_N, diagnostics=diagnostics)

    def points(
        self,
        a_ND: torch.Tensor,
        p_ND: torch.Tensor,
        c_ND: torch.Tensor,
        progress: float,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """The positives [N, D] of triplets, rotated; whether a full rotation moves them [N]; and
        which are rotated [N], None for all."""
        chosen_N = geometry.same_side(a_ND, p_ND, c_ND) if self.only == "same_side" else None
        own_ND = p_ND
        if self.gradient != "full":
            c_ND = c_ND.detach()
        if self.gradient in ("positive", "anchor"):
            a_ND = a_ND.detach()
        if self.gradient == "anchor":
            p_ND = p_ND.detach()
        rotate = geometry.rotate_on_sphere if self.surface == "spherical" else geometry.rotate
        rotated_ND, moved_N = rotate(a_ND, p_ND, c_ND, self.fraction(progress))
        if self.surface == "renormalized":
            rotated_ND = torch.nn.functional.normalize(rotated_ND)
        if progress < self.delay:
            return own_ND, moved_N, chosen_N
        if chosen_N is not None:
            rotated_ND = torch.where(chosen_N[:, None], rotated_ND, own_ND)
        return rotated_ND, moved_N, chosen_N
