"""The composition of a method: centers -> generator -> mining -> loss, on the global batch."""

import torch
import torch.nn.functional as F
from torch import nn

from rhs import distributed
from rhs.build import build
from rhs.errors import UserError
from rhs.methods import geometry, mining

HARDER = 1e-5  # a smaller gain in similarity is rounding: a reflection gains exactly nothing


class Objective(nn.Module):
    """A metric-learning loss over the pairs of a batch that may be spread over many workers.

    Every rank gathers all embeddings and computes the same, full loss. Its value is that of one
    process holding the whole batch, and so are the gradients once DistributedDataParallel has
    averaged them.

    Args:
        loss: called as `loss(positive_N, negative_NN, labels_N)`.
        mining: chooses positives and negatives among originals and synthetic points.
        generator: makes a synthetic point from each sample of a pair, or None.
        centers: class centers for the generator, or None.
        normalize: put embeddings on the unit sphere first.
        scale: factor on all similarities (1 / temperature); what un-normalized embeddings learn by
            growing, normalized ones need as a number.
        plain_weight: share, 0 to 1, of the loss on the original pairs alone.
        l2: weight of the mean squared length, counted as 0.25 l2 (mean |a|^2 + mean |p|^2); for
            un-normalized embeddings.
    """

    def __init__(
        self,
        loss,
        mining: mining.PairMining,
        generator=None,
        centers: nn.Module | None = None,
        normalize: bool = True,
        scale: float = 1.0,
        plain_weight: float = 0.0,
        l2: float = 0.0,
    ):
        super().__init__()
        if generator is not None and generator.needs_centers and centers is None:
            raise UserError(
                f"method.centers is null, but {type(generator).__name__} rotates about class "
                "centers: choose some, for instance rhs.methods.centers.EMACenters."
            )
        if not 0 <= plain_weight <= 1:
            raise UserError(f"method.plain_weight is {plain_weight}; it is between 0 and 1.")
        self.loss, self.mining, self.generator, self.centers = loss, mining, generator, centers
        self.plain = type(mining)() if plain_weight else None
        self.normalize, self.scale, self.plain_weight, self.l2 = normalize, scale, plain_weight, l2

    def prepare(self, num_classes: int, dim: int) -> None:
        """Allocate what is kept per class. Call once, before training or loading a checkpoint."""
        if self.centers is not None:
            self.centers.prepare(num_classes, dim)  # type: ignore[operator]

    def forward(
        self, x_local_bD: torch.Tensor, labels_local_b: torch.Tensor, progress: float = 0.0
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Loss of the global batch and its diagnostics, the same on every rank.

        Args:
            x_local_bD: this rank's embeddings, float32 or float64; as many rows on every rank.
            labels_local_b: their class numbers.
            progress: share of training done, 0 to 1.
        """
        if self.normalize:
            x_local_bD = F.normalize(x_local_bD)
        x_BD = distributed.gather(x_local_bD)
        labels_B = distributed.gather(labels_local_b)
        anchor_N, positive_N = mining.pair_up(labels_B)
        points = {"anchor": x_BD[anchor_N], "positive": x_BD[positive_N]}
        labels_N = labels_B[anchor_N]
        diagnostics: dict[str, torch.Tensor] = {}
        if self.generator is not None:
            c_ND = None
            if self.centers is not None:
                c_ND = self.centers(x_local_bD, labels_local_b, labels_B)[anchor_N]
            self._generate(points, c_ND, progress, diagnostics)
        loss = self._loss(self.mining, points, labels_N)
        if self.plain_weight:
            plain = self._loss(self.plain, points, labels_N)
            loss = torch.lerp(loss, plain, self.plain_weight)
        if self.l2:
            mean2 = [points[role].square().sum(1).mean() for role in ("anchor", "positive")]
            loss = loss + 0.25 * self.l2 * sum(mean2)
        return loss, diagnostics

    def _generate(self, points, c_ND, progress, diagnostics) -> None:
        """Add the synthetic point of each sample to `points`, and what was seen to diagnostics."""
        a_ND, p_ND = points["anchor"], points["positive"]
        points["synthetic_positive"] = self.generator(a_ND, p_ND, c_ND, progress)
        points["synthetic_anchor"] = self.generator(p_ND, a_ND, c_ND, progress)
        with torch.no_grad():
            gained_N = (a_ND * (p_ND - points["synthetic_positive"])).sum(1)
            diagnostics["hardness_gained"] = gained_N.mean()
            diagnostics["synthetic_harder"] = (gained_N > HARDER).float().mean()
            if c_ND is not None:
                angle_N = geometry.rotation_angle(a_ND, p_ND, c_ND)
                diagnostics["rotations_unmoved"] = (angle_N < geometry.UNMOVED).float().mean()

    def _loss(self, mining, points, labels_N) -> torch.Tensor:
        positive_N, negative_NN = mining(points)
        return self.loss(self.scale * positive_N, self.scale * negative_NN, labels_N)


def build_objective(config: dict) -> Objective:
    """What a `method` group describes; its `name` only labels it."""
    return build({key: value for key, value in config.items() if key != "name"})


def check_method(config: dict) -> None:
    """Build the method and compute one small loss.

    Raises:
        UserError: it cannot be built, or not computed, from its settings.
    """
    try:
        objective = build_objective(config)
        objective.prepare(num_classes=4, dim=8)
        objective(torch.eye(8), torch.arange(8) // 2)
    except TypeError as error:  # a text where a number belongs
        raise UserError(f"method {config['name']} does not work as it is set: {error}.") from error
