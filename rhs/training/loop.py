"""The training loop, without Ray, MLflow or Hydra: what they do comes as callbacks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

from rhs.data.loader import TrainLoader
from rhs.errors import UserError, check_number
from rhs.training.optimization import Optimizers, learning_rate, set_learning_rate
from rhs.training.progress import Progress, StepMetrics
from rhs.training.refresh import refresh_statistics


class CheckpointerLike(Protocol):
    """What the loop needs of rhs.training.checkpointer.Checkpointer."""

    def due(self, step: int) -> bool: ...

    def save(self, progress: Progress) -> None: ...


@dataclass(frozen=True)
class Settings:
    """The `train` group of the configuration, as far as the loop needs it."""

    epochs: int
    lr: float
    warmup: float  # steps, or below 1 a share of all steps
    precision: str  # "float32" or "bfloat16"
    seed: int

    def __post_init__(self):
        if self.precision not in ("float32", "bfloat16"):
            raise UserError(
                f"train.precision is {self.precision!r}; it must be float32 or bfloat16."
            )
        check_number("train.epochs", self.epochs, least=1, whole=True)
        check_number("train.lr", self.lr, above=0)
        check_number("train.warmup", self.warmup, least=0)

    def warmup_steps(self, total: int) -> int:
        """Steps of the warm-up, of `total` in all."""
        return int(self.warmup * total) if self.warmup < 1 else int(self.warmup)

    def rate(self, step: int, total: int) -> float:
        """The learning rate of a step, from 0, of `total` in all."""
        return learning_rate(step, total, self.lr, self.warmup_steps(total))


def train(
    model: nn.Module,
    objective: nn.Module,
    optimizer: Optimizers | torch.optim.Optimizer,
    loader: TrainLoader,
    settings: Settings,
    progress: Progress,
    device: torch.device,
    end_of_epoch: Callable[[Progress, dict[str, float]], None],
    say: Callable[[str], None],
    record: Callable[[list[dict[str, float]]], None] | None = None,
    keeper: CheckpointerLike | None = None,
) -> None:
    """Train from `progress`, which may lie within an epoch, to the last epoch.

    Args:
        model: the embedder, or DistributedDataParallel around it.
        end_of_epoch: called on every rank, a row having been added to `progress.history`, with the
            epoch's times; it validates, saves and reports.
        say: takes lines for a person to read: a sign of life twice a minute, and warnings.
        record: takes the numbers of steps, evenly spaced ones of a long epoch.
        keeper: saves between the ends of epochs; may differ from rank to rank.

    Raises:
        UserError: the loss or a gradient is not finite; before the update, on every rank at once.
    """
    steps = loader.plan.steps
    total = settings.epochs * steps
    for epoch in range(progress.epochs_done, settings.epochs):
        if progress.step == 0:  # else the checkpoint holds what came of it
            refresh_statistics(model, objective, loader, epoch, device, say)
        model.train()
        objective.train()
        meter = StepMetrics(progress, steps, record)
        for batch in loader.epoch(epoch, progress.step):
            meter.batch_is_here()
            done = progress.total(steps)
            set_learning_rate(optimizer, settings.rate(done, total))
            loss, diagnostics = training_step(
                model,
                objective,
                optimizer,
                batch[0].to(device),
                batch[1].to(device),
                done / total,
                settings.precision,
                settings.seed * 1_000_003 + done,
                *(values.to(device) for values in batch[2:]),
            )
            if (bad := not_finite(loss, model, objective)) is not None:
                raise UserError(
                    f"The {bad} in epoch {epoch + 1}, step {progress.step + 1} "
                    f"({loader.describe(epoch, progress.step)}): no update was made. A lower "
                    "train.lr may help."
                )
            optimizer.step()
            meter.step_is_done(loss, diagnostics)
            if keeper is not None and keeper.due(done + 1):
                meter.settle()
                keeper.save(progress)
            if meter.is_due():
                say(f"epoch {epoch + 1}, step {progress.step}/{steps}  loss {loss:.4f}")
        meter.settle()
        progress.end_epoch(steps, settings.rate((epoch + 1) * steps - 1, total))
        warn_of_identity(progress.history, say)
        end_of_epoch(progress, meter.times(loader.plan.batch_size))


def not_finite(loss: torch.Tensor, *trained: nn.Module) -> str | None:
    """What is not finite, in words; None if the loss and all gradients are.

    The loss is the same on every rank, and so are gradients that were averaged over them.
    """
    if not torch.isfinite(loss):
        return f"loss is {loss.item()}"
    gradients = [p.grad for module in trained for p in module.parameters() if p.grad is not None]
    dense = [g.coalesce().values() if g.is_sparse else g for g in gradients]
    norm = nn.utils.get_total_norm(dense)
    return None if torch.isfinite(norm) else f"gradient's norm is {norm.item()}"


def warn_of_identity(history: list[dict], say: Callable[[str], None]) -> None:
    """Say once when most rotations of an epoch moved nothing: the method does nothing then."""
    shares = [row.get("rotations_unmoved", 0.0) for row in history]
    if shares[-1] > 0.5 and all(share <= 0.5 for share in shares[:-1]):
        say(
            f"warning: {shares[-1]:.0%} of the rotations in epoch {len(shares)} moved nothing, "
            "because the class center was the pair's own midpoint. Take train.per_class of 3 or "
            "more, or centers that remember other batches (rhs.methods.centers.EMACenters)."
        )


def training_step(
    model: nn.Module,
    objective: nn.Module,
    optimizer: Optimizers | torch.optim.Optimizer,
    images: torch.Tensor,
    labels: torch.Tensor,
    progress: float,
    precision: str = "float32",
    seed: int = 0,
    values: torch.Tensor | None = None,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Forward and backward: leaves the gradients of the global batch's loss on the parameters."""
    torch.manual_seed(seed)
    with torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        x_bD = model(images)
    # At least float32: dot products and distances of bfloat16 embeddings are too coarse.
    x_bD = x_bD.to(torch.promote_types(x_bD.dtype, torch.float32))
    # Anew: what the model has drawn depends on its share of the batch, what the objective draws
    # must not.
    torch.manual_seed(seed)
    # The plan gives every rank as many images, and its seed is everybody's.
    loss, diagnostics = objective(x_bD, labels, progress, values, alike=True)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    return loss.detach(), diagnostics
