"""The training loop, without Ray, MLflow or Hydra: what surrounds it comes as `RunHooks`."""

from collections.abc import Callable
from functools import partial
from typing import Protocol

import torch
from torch import nn

from rhs.config.settings import TrainConfig
from rhs.data.loader import TrainLoader
from rhs.errors import UserError
from rhs.training.hooks import RunHooks
from rhs.training.optimization import Optimizers, learning_rate, set_learning_rate
from rhs.training.progress import Progress, StepMetrics
from rhs.training.refresh import refresh_statistics


class CheckpointerLike(Protocol):
    """What the loop needs of rhs.training.checkpointer.Checkpointer."""

    def due(self, step: int) -> bool: ...

    def save(self, progress: Progress) -> None: ...


def train(
    model: nn.Module,
    objective: nn.Module,
    optimizer: Optimizers | torch.optim.Optimizer,
    loader: TrainLoader,
    settings: TrainConfig,
    progress: Progress,
    *,
    seed: int,
    device: torch.device,
    end_of_epoch: Callable[[Progress, dict[str, float]], None],
    hooks: RunHooks,
    checkpointer: CheckpointerLike | None = None,
) -> None:
    """Train from `progress`, which may lie within an epoch, to the last epoch.

    Args:
        model: the embedder, or DistributedDataParallel around it.
        end_of_epoch: called on every rank, a row having been added to `progress.history`, with the
            epoch's times; it validates, saves and reports.
        checkpointer: saves between the ends of epochs; may differ from rank to rank.

    Raises:
        UserError: the loss or a gradient is not finite; before the update, on every rank at once.
    """
    steps, total = loader.plan.steps, settings.epochs * loader.plan.steps
    rate = partial(
        learning_rate, total=total, base=settings.lr, warmup=settings.warmup_steps(total)
    )
    for epoch in range(progress.epochs_done, settings.epochs):
        if progress.step == 0:  # else the checkpoint holds what came of it
            refresh_statistics(model, objective, loader, epoch, device, hooks.say)
        model.train()
        objective.train()
        meter = StepMetrics(progress, steps, hooks.record)
        for batch in loader.epoch(epoch, progress.step):
            meter.batch_is_here()
            done = progress.total(steps)
            set_learning_rate(optimizer, rate(done))
            images, labels, *values = (part.to(device) for part in batch)
            loss, diagnostics = training_step(
                model,
                objective,
                optimizer,
                images,
                labels,
                done / total,
                precision=settings.precision,
                seed=seed * 1_000_003 + done,
                values=values[0] if values else None,
            )
            if (bad := not_finite(loss, model, objective)) is not None:
                raise UserError(
                    f"The {bad} in epoch {epoch + 1}, step {progress.step + 1} "
                    f"({loader.describe(epoch, progress.step)}): no update was made. A lower "
                    "train.lr may help."
                )
            optimizer.step()
            meter.step_is_done(loss, diagnostics)
            if checkpointer is not None and checkpointer.due(done + 1):
                meter.settle()
                checkpointer.save(progress)
            if meter.is_due():
                hooks.say(f"epoch {epoch + 1}, step {progress.step}/{steps}  loss {loss:.4f}")
        meter.settle()
        progress.end_epoch(steps, rate((epoch + 1) * steps - 1))
        warn_of_identity(progress.history, hooks.say)
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
    *,
    precision: str = "float32",
    seed: int = 0,
    values: torch.Tensor | None = None,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Forward and backward: leaves the gradients of the global batch's loss on the parameters.

    Args:
        images: this rank's share of the batch.
        labels, values: those of the whole batch.
    """
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
