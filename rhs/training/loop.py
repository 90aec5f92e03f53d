"""The training loop. It needs torch alone: what surrounds it (Ray, MLflow) comes as callbacks."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import nn

from rhs.data.loader import TrainLoader
from rhs.errors import UserError, number
from rhs.training.schedule import Optimizers, learning_rate, set_learning_rate
from rhs.training.survey import survey


@dataclass
class Progress:
    """How far a run has come. With the tensors of `checkpoint.pack` it is all of its state.

    There is no generator state in it: random numbers are seeded anew at every step.
    """

    epochs_done: int = 0
    history: list[dict] = field(default_factory=list)


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
        number("train.epochs", self.epochs, least=1, whole=True)
        number("train.lr", self.lr, above=0)
        number("train.warmup", self.warmup, least=0)

    def warmup_steps(self, total: int) -> int:
        """Steps of the warm-up, of `total` in all."""
        return int(self.warmup * total) if self.warmup < 1 else int(self.warmup)


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
) -> None:
    """Train from `progress` to the last epoch.

    Args:
        model: the embedder, or DistributedDataParallel around it.
        end_of_epoch: called on every rank, a row having been added to `progress.history`, with the
            epoch's times; it validates, saves and reports.
        say: takes lines for a person to read: a sign of life twice a minute, and warnings.
        record: takes the numbers of every step, after each epoch.

    Raises:
        UserError: the loss or a gradient is not finite; before the update, on every rank at once.
    """
    for epoch in range(progress.epochs_done, settings.epochs):
        survey(model, objective, loader, epoch, device, say)
        model.train()
        meter = Meter()
        for step, (images, labels, *values) in enumerate(loader.epoch(epoch)):
            meter.batch_is_here()
            done = epoch * loader.plan.steps + step
            total = settings.epochs * loader.plan.steps
            lr = learning_rate(done, total, settings.lr, settings.warmup_steps(total))
            set_learning_rate(optimizer, lr)
            loss, diagnostics = training_step(
                model, objective, optimizer, images.to(device), labels.to(device),
                done / total, settings.precision, settings.seed * 1_000_003 + done,
                *(value.to(device) for value in values),
            )  # fmt: skip
            if (bad := not_finite(loss, model, objective)) is not None:
                raise UserError(
                    f"The {bad} in epoch {epoch + 1}, step {step + 1} "
                    f"({loader.describe(epoch, step)}): no update was made. A lower train.lr may "
                    "help."
                )
            optimizer.step()
            meter.step_is_done(loss, diagnostics)
            if meter.is_due():
                say(f"epoch {epoch + 1}, step {step + 1}/{loader.plan.steps}  loss {loss:.4f}")
        progress.epochs_done = epoch + 1
        progress.history.append({"epoch": epoch + 1, "step": done + 1, "lr": lr} | meter.means())
        if record is not None:
            record(meter.steps(first=epoch * loader.plan.steps + 1))
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
    loss, diagnostics = objective(x_bD, labels, progress, values)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    return loss.detach(), diagnostics


class Meter:
    """Means over an epoch, and where its time went."""

    def __init__(self):
        self.start = self.last = self.said = time.perf_counter()
        self.waited = 0.0
        self.seen: list[dict[str, torch.Tensor]] = []
        self.read: list[dict[str, float]] = []

    def batch_is_here(self) -> None:
        self.waited += time.perf_counter() - self.last

    def step_is_done(self, loss: torch.Tensor, diagnostics: dict[str, torch.Tensor]) -> None:
        self.seen.append({"loss": loss, **diagnostics})  # stays on the device
        self.last = time.perf_counter()

    def is_due(self) -> bool:
        """True at most once in 30 seconds."""
        if due := self.last - self.said > 30:
            self.said = self.last
        return due

    def steps(self, first: int) -> list[dict[str, float]]:
        """The loss and the diagnostics of every step, the first being number `first`."""
        if not self.read:
            self.read = [{k: float(v) for k, v in row.items()} for row in self.seen]
        return [{"step": first + i, **row} for i, row in enumerate(self.read)]

    def means(self) -> dict[str, float]:
        """Mean of the loss and of each diagnostic over the steps that have it."""
        rows = self.steps(0)
        names = dict.fromkeys(name for row in rows for name in row if name != "step")
        values = {name: [row[name] for row in rows if name in row] for name in names}
        return {name: math.fsum(numbers) / len(numbers) for name, numbers in values.items()}

    def times(self, batch_size: int) -> dict[str, float]:
        """Seconds, images per second of all workers, share of the time spent waiting for input.

        Kept apart from the means, which are a function of parameters and data: these never are.
        """
        seconds = time.perf_counter() - self.start
        return {
            "seconds": round(seconds, 2),
            "images_per_second": round(len(self.seen) * batch_size / seconds, 1),
            "input_wait": round(self.waited / seconds, 4),
        }
