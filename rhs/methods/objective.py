"""The composition of a method: centers -> generator -> mining -> loss, on the global batch."""

from collections.abc import Iterable
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from rhs.config.instantiate import TRUSTED, build
from rhs.config.target_checks import check_target
from rhs.distributed import collectives
from rhs.errors import UserError
from rhs.methods import diagnostics
from rhs.methods.centers import SignatureCenters
from rhs.methods.compatibility import check_combination
from rhs.methods.interfaces import Batch

# What a method may name besides this package's own parts.
OUTSIDE = tuple(
    f"pytorch_metric_learning.{part}."
    for part in ("losses", "miners", "distances", "reducers", "regularizers")
)
NOT_OURS = ("name", "batches")  # keys of a method that are no part of its loss
PARTS = ("loss", "mining", "generator", "centers", "signatures")  # sentences begin with their name


class Objective(nn.Module):
    """A metric-learning loss of a batch that may be spread over many workers.

    Every rank gathers all embeddings and computes the same, full loss. Its value is that of one
    process holding the whole batch, and so are the gradients once DistributedDataParallel has
    averaged them. The objective's own parameters need no averaging: their gradients are complete on
    every rank. Ranks may have any number of rows, other seeds and other starting values: random
    numbers, and what is learned or kept, are rank 0's.

    Only in training mode and with gradients does a forward pass change what is kept (centers):
    after `eval()` or under `no_grad` it leaves the state as it is.

    Args:
        loss: one of the losses of rhs.methods.interfaces, as the other parts are.
        mining: chooses positives and negatives among originals and synthetic points; None for a
            loss that takes embeddings and labels.
        measure: how two embeddings are compared: `dot`, `euclidean` or `squared_euclidean`.
        generator: makes synthetic points, or None.
        centers: class centers for the generator, or None.
        signatures: a softmax over learned class signatures that is added to the loss, or None.
        signature_weight: its weight, lambda in SCHEM.
        normalize: put embeddings on the unit sphere first.
        original_weight: share, 0 to 1, of the loss on the original samples alone.
        l2: weight of the mean squared length, counted as 0.25 l2 (mean |a|^2 + mean |p|^2), which
            is 0.5 l2 mean |x|^2; for un-normalized embeddings.

    Raises:
        UserError: parts that do not go together.
    """

    def __init__(
        self,
        loss: Any,
        mining: Any = None,
        measure: str = "dot",
        generator: Any = None,
        centers: Any = None,
        *,
        signatures: Any = None,
        signature_weight: float = 1.0,
        normalize: bool = True,
        original_weight: float = 0.0,
        l2: float = 0.0,
    ):
        super().__init__()
        self.loss, self.mining, self.measure = loss, mining, measure
        self.generator, self.centers, self.signatures = generator, centers, signatures
        self.signature_weight, self.normalize = signature_weight, normalize
        self.original_weight, self.l2 = original_weight, l2
        self.has_met = False  # whether what is learned and kept is rank 0's, if there are ranks
        check_combination(self)
        if not loss.takes_labels:
            loss.set_measure(measure)

    def prepare(self, num_classes: int, dim: int, **more: Any) -> None:
        """Allocate what is kept per class. Call once, before training or loading a checkpoint.

        No rank waits for another here: in the first forward pass rank 0's values reach all.

        Args:
            more: for a loss that takes continuous labels: `values_CL`, those of the classes, or
                `images_have_values=True`, if `forward` will be given each image's own.
        """
        for part in (self.centers, self.generator, self.signatures, self.loss):
            if part is not None:
                takes_more = part is self.loss and self.loss.continuous
                part.prepare(num_classes, dim, **(more if takes_more else {}))

    def needs_refresh(self, epoch: int) -> bool:
        """Whether a part wants the whole training set's embeddings before this epoch, from 0."""
        return any(epoch % part.every == 0 for part in self._refreshed())

    def refresh(self, epoch: int, samples: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> None:
        """Show this rank's share of the training set, (raw embeddings, labels) in batches.

        Every sample must come once, on one rank.
        """
        due = [part for part in self._refreshed() if epoch % part.every == 0]
        sums = [part.start_refresh() for part in due]
        for raw_bD, labels_b in samples:
            x_bD = F.normalize(raw_bD) if self.normalize else raw_bD
            for part, total in zip(due, sums, strict=True):
                total.add(raw_bD if part is self.generator else x_bD, labels_b)
        for part, total in zip(due, sums, strict=True):
            part.finish_refresh(total)

    def _refreshed(self) -> list:
        parts = (self.centers, self.generator, self.signatures, self.loss)
        return [part for part in parts if part is not None and part.wants_refresh]

    def forward(
        self,
        x_local_bD: torch.Tensor,
        labels_local_b: torch.Tensor,
        progress: float = 0.0,
        values_local_bL: torch.Tensor | None = None,
        alike: bool = False,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Loss of the global batch and its diagnostics, the same on every rank.

        Args:
            x_local_bD: this rank's embeddings; any number of rows. Computed on in float32, or
                float64 if they are, whatever autocast says.
            labels_local_b: their class numbers.
            progress: share of training done, 0 to 1.
            values_local_bL: their continuous labels, for a loss that takes them.
            alike: the caller knows that ranks have as many rows, the same state of torch's
                generators and the same objective, as in this project's training loop: saves the
                two short messages of a step that see to it, and a long one in the first.

        Raises:
            UserError: no rank has a row.
        """
        device = x_local_bD.device
        counts = None
        if not alike:
            self._meet()
            counts = collectives.row_counts(labels_local_b)
            if not sum(counts):
                raise UserError("The batch is empty: no worker has a row of it.")
        exact = torch.promote_types(x_local_bD.dtype, torch.float32)
        same = nullcontext() if alike else collectives.drawing_alike(device)
        with torch.autocast(device.type, enabled=False), same:
            raw_BD = collectives.gather(x_local_bD.to(exact), counts)
            labels_B = collectives.gather(labels_local_b, counts)
            values_BL = values_local_bL
            if values_BL is not None:
                values_BL = collectives.gather(values_BL, counts)
            return self._of_batch(raw_BD, labels_B, progress, values_BL)

    @torch.no_grad()
    def _meet(self) -> None:
        """Once: take over what rank 0's objective has learned and kept, as DDP does for a model."""
        if not self.has_met and collectives.world_size() > 1:
            self.has_met = True
            for tensor in [*self.parameters(), *self.buffers()]:
                tensor.copy_(collectives.broadcast_from_first(tensor))

    def _of_batch(
        self,
        raw_BD: torch.Tensor,
        labels_B: torch.Tensor,
        progress: float,
        values_BL: torch.Tensor | None,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        x_BD = F.normalize(raw_BD) if self.normalize else raw_BD
        measured = diagnostics.of_batch(x_BD, labels_B)
        if values_BL is not None:
            loss = self.loss(x_BD, labels_B, values_BL)
        elif self.mining is None:
            loss = self.loss(x_BD, labels_B)
        else:
            c_BD = self._centers(x_BD, labels_B)
            batch = Batch(x_BD, raw_BD, labels_B, c_BD, self.normalize)
            loss = self._mined(batch, progress, measured)
        if self.signatures is not None:
            loss = loss + self.signature_weight * self.signatures(x_BD, labels_B)
        if self.l2:
            loss = loss + 0.5 * self.l2 * x_BD.square().sum(1).mean()
        return loss, measured

    def _mined(self, batch: Batch, progress: float, measured: dict) -> torch.Tensor:
        generate = self.generator and partial(self.generator, batch, progress=progress)
        mixed = self.original_weight > 0
        rows, plain = self.mining(batch, generate, self.measure, mixed)
        measured.update(rows.diagnostics)
        loss = self.loss(rows)
        return torch.lerp(loss, self.loss(plain), self.original_weight) if plain else loss

    def _centers(self, x_BD: torch.Tensor, labels_B: torch.Tensor) -> torch.Tensor | None:
        if self.centers is None:
            return None
        of_signatures = isinstance(self.centers, SignatureCenters)
        return self.centers(self.signatures if of_signatures else x_BD, labels_B)


def build_objective(config: dict) -> Objective:
    """What a `method` group describes, but for the keys that only label it or compose batches.

    Raises:
        UserError: it cannot be built from its settings.
    """
    return build({k: v for k, v in config.items() if k not in NOT_OURS}, also=OUTSIDE)


def takes_values(objective: Objective) -> bool:  # whether the loss is of continuous labels
    return objective.loss.continuous


def check_method(config: dict, num_classes: int = 4, dim: int = 8, **more: Any) -> Objective:
    """Build the method and take two small steps with it.

    Args:
        num_classes, dim: of the data and the model it is meant for.
        more: as for `Objective.prepare`.

    Raises:
        UserError: it cannot be built, or not computed, from its settings.
    """
    settings = {key: value for key, value in config.items() if key not in NOT_OURS}
    check_target("method", settings, TRUSTED, OUTSIDE)
    try:
        objective = build_objective(config)
        objective.prepare(num_classes, dim, **more)
        labels_B = torch.arange(8) // 2 % num_classes
        own = more.get("images_have_values") and takes_values(objective)
        values_B1 = torch.arange(8.0)[:, None] if own else None
        x_BD = torch.randn(8, dim, generator=torch.Generator().manual_seed(0)).requires_grad_()
        if objective.needs_refresh(0):
            objective.refresh(0, [(x_BD.detach(), labels_B)])
        for _ in range(2):
            objective(x_BD, labels_B, values_local_bL=values_B1)[0].backward()
    except UserError as error:
        part = str(error).partition(".")[0]
        raise UserError(f"{'method.' if part in PARTS else ''}{error}") from None
    except Exception as error:  # of whatever kind: a setting that its author did not foresee
        why = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else repr(error)
        if isinstance(error, KeyError):
            why = f"{why} is missing"
        raise UserError(f"method {config['name']} does not work as it is set: {why}.") from error
    return objective
