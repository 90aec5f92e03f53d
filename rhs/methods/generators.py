"""Hard-sample generators: synthetic points with their labels and parents.

A generator is called as `generator(batch, anchor_N, positive_N, progress)`: the batch, N pairs of
its rows that share a class, and the share of training done, 0 to 1. Which pairs there are, and what
the points compete with, is not a generator's concern (see pair_mining.py and batch_mining.py).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from rhs.errors import UserError, number
from rhs.methods import geometry


@dataclass
class Batch:
    """The global batch.

    Attributes:
        x_BD: embeddings as they are compared.
        raw_BD: embeddings as the model made them.
        labels_B: their classes.
        centers_BD: the class center of each row, or None.
        normalized: whether x_BD is raw_BD on the unit sphere; else the two are the same.
    """

    x_BD: torch.Tensor
    raw_BD: torch.Tensor
    labels_B: torch.Tensor
    centers_BD: torch.Tensor | None = None
    normalized: bool = True


@dataclass
class Points:
    """Synthetic points.

    Attributes:
        x_MD: where they are.
        labels_M: the classes they belong to.
        parent_M: the row of the batch that each descends from.
        anchor_M: the row that each was made to be hard for; None: any row of its class.
        weights_M2: where x = w0 anchor + w1 parent, these two numbers, else None; dot products with
            such points follow from those of the batch.
        positive_MD: what takes the parents' places as positives, where it is not x_MD.
        diagnostics: what is worth knowing about them.
    """

    x_MD: torch.Tensor
    labels_M: torch.Tensor
    parent_M: torch.Tensor
    anchor_M: torch.Tensor | None = None
    weights_M2: torch.Tensor | None = None
    positive_MD: torch.Tensor | None = None
    diagnostics: dict[str, torch.Tensor] = field(default_factory=dict)

    def as_positives(self) -> torch.Tensor:
        """The points [M, D] that take the parents' places as positives."""
        return self.x_MD if self.positive_MD is None else self.positive_MD


Generate = Callable[[torch.Tensor, torch.Tensor], Points]  # (anchor_N, positive_N) -> points
SURFACES = ("euclidean", "renormalized", "spherical")
SCHEDULES = ("constant", "linear", "cosine")
GRADIENTS = ("full", "center_detached", "positive", "anchor")
ROTATED = ("all", "nearer")


class Rotation:
    """RHS-DML: rotate the positive about its class center, away from the anchor.

    Args:
        start, end: the fraction of the full rotation at the start and the end of training.
            `start = end = 1` is the paper's rotation.
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
        only: which positives are rotated: `all`, or those `nearer` to their anchors than the spread
            about the center suggests (geometry.nearer); the others stay, with their gradients.

    Source: Zhang et al., J. Shanxi Univ. (Nat. Sci.) 47(5), 2024, for the full Euclidean rotation;
    the rest is ours.
    """

    needs_centers = True

    def __init__(
        self,
        start: float = 1.0,
        end: float = 1.0,
        schedule: str = "linear",
        surface: str = "euclidean",
        gradient: str = "full",
        delay: float = 0.0,
        only: str = "all",
    ):
        for name, value in (("start", start), ("end", end)):
            number(f"generator.{name}", value, least=0, most=1)
        number("generator.delay", delay)
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

    def __call__(self, batch: Batch, anchor_N, positive_N, progress: float) -> Points:
        """One point a pair: the rotated positive."""
        assert batch.centers_BD is not None, "the objective provides centers"
        a_ND, p_ND = batch.x_BD.index_select(0, anchor_N), batch.x_BD.index_select(0, positive_N)
        c_ND = batch.centers_BD.index_select(0, anchor_N)
        made_ND, moved_N = self.points(a_ND, p_ND, c_ND, progress)
        unmoved = (~moved_N).to(a_ND.dtype).sum() / max(1, len(moved_N))
        told = {"rotations_unmoved": unmoved}
        if self.only == "nearer":
            chosen_N = geometry.nearer(a_ND, p_ND, c_ND)
            told["rotations_chosen"] = chosen_N.to(a_ND.dtype).sum() / max(1, len(chosen_N))
        labels_N = batch.labels_B[anchor_N]
        return Points(made_ND, labels_N, positive_N, anchor_N, diagnostics=told)

    def points(self, a_ND, p_ND, c_ND, progress: float) -> tuple[torch.Tensor, torch.Tensor]:
        """The rotated positives [N, D] of triplets, and whether a full rotation moves them [N]."""
        own_ND = p_ND
        if self.gradient != "full":
            c_ND = c_ND.detach()
        if self.gradient in ("positive", "anchor"):
            a_ND = a_ND.detach()
        if self.gradient == "anchor":
            p_ND = p_ND.detach()
        spherical = self.surface == "spherical"
        turn = geometry.rotate_on_sphere_and_tell if spherical else geometry.rotate_and_tell
        made_ND, moved_N = turn(a_ND, p_ND, c_ND, self.fraction(progress))
        if self.surface == "renormalized":
            made_ND = torch.nn.functional.normalize(made_ND)
        if progress < self.delay:
            return own_ND, moved_N
        if self.only == "nearer":
            chosen_N1 = geometry.nearer(a_ND, p_ND, c_ND)[:, None]
            made_ND = torch.where(chosen_N1, made_ND, own_ND)
        return made_ND, moved_N


class Symmetric:
    """Symmetrical Synthesis: mirror the positive about the line of the anchor.

    x' = beta (alpha proj - x), where proj is the positive's projection on the anchor.

    Source: Gu and Ko, AAAI 2020 (alpha = 2 and beta = 1 in the paper).
    """

    needs_centers = False

    def __init__(self, alpha: float = 2.0, beta: float = 1.0):
        number("generator.alpha", alpha)
        number("generator.beta", beta)
        self.alpha, self.beta = alpha, beta

    def __call__(self, batch: Batch, anchor_N, positive_N, progress: float) -> Points:
        """One point a pair: the mirrored positive."""
        a_ND, p_ND = batch.x_BD.index_select(0, anchor_N), batch.x_BD.index_select(0, positive_N)
        along_N = (p_ND * a_ND).sum(1) / a_ND.square().sum(1).clamp_min(geometry.TINY)
        own_N = torch.full_like(along_N, -self.beta)
        weights_N2 = torch.stack([self.beta * self.alpha * along_N, own_N], dim=1)
        made_ND = geometry.reflect(p_ND, a_ND, self.alpha, self.beta)
        return Points(made_ND, batch.labels_B[anchor_N], positive_N, anchor_N, weights_N2)
