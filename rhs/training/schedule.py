"""The learning rate as a function of the step, and the optimizer it drives."""

import math

import torch

from rhs.models.embedder import Embedder


def build_optimizer(
    model: Embedder, objective: torch.nn.Module, lr: float, weight_decay: float, head_lr: float
) -> torch.optim.AdamW:
    """AdamW; the embedding head learns `head_lr` times as fast as the trunk.

    Biases and normalization parameters are not decayed. Parameters of the objective, where it has
    any, learn like the head.
    """
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        factor = head_lr if name.startswith("head.") else 1.0
        decay = weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((factor, decay), []).append(parameter)
    if own := list(objective.parameters()):
        groups.setdefault((head_lr, 0.0), []).extend(own)
    return torch.optim.AdamW(
        [
            {"params": parameters, "weight_decay": decay, "lr_factor": factor}
            for (factor, decay), parameters in groups.items()
        ],
        lr=lr,
    )


def learning_rate(step: int, total: int, base: float, warmup: int) -> float:
    """Linear warm-up over `warmup` steps, then a cosine down to 0 at step `total`."""
    if step < warmup:
        return base * (step + 1) / warmup
    return base * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = value * group["lr_factor"]
