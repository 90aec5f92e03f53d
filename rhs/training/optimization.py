"""The learning rate as a function of the step, and the optimizer it drives."""

import math

import torch

from rhs.models.embedder import Embedder, Head


class Optimizers:
    """Several optimizers as one: `AdamW` for parameters, `SparseAdam` for tables of which a step
    touches a few rows.

    Args:
        parts: their states are numbered one after the other.
    """

    def __init__(self, *parts: torch.optim.Optimizer):
        self.parts = parts

    @property
    def param_groups(self) -> list[dict]:
        return [group for part in self.parts for group in part.param_groups]

    def zero_grad(self, set_to_none: bool = True) -> None:
        for part in self.parts:
            part.zero_grad(set_to_none)

    def step(self) -> None:
        for part in self.parts:
            part.step()

    def state_dict(self) -> dict:
        """As of one optimizer; every entry of a state is a tensor."""
        state: dict[int, dict[str, torch.Tensor]] = {}
        groups, first = [], 0
        for part in self.parts:
            own = part.state_dict()
            for number, entries in own["state"].items():
                state[first + number] = {k: torch.as_tensor(v) for k, v in entries.items()}
            groups += own["param_groups"]
            first += sum(len(group["params"]) for group in part.param_groups)
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, whole: dict) -> None:
        """The inverse. The groups' settings stay those that each part was built with."""
        first = 0
        for part in self.parts:
            count = sum(len(group["params"]) for group in part.param_groups)
            kept = {n: whole["state"].get(first + n) for n in range(count)}
            state = {n: entries for n, entries in kept.items() if entries is not None}
            if isinstance(part, torch.optim.SparseAdam):  # it counts in whole numbers
                state = {n: e | {"step": int(e["step"])} for n, e in state.items()}
            part.load_state_dict(
                {"state": state, "param_groups": part.state_dict()["param_groups"]}
            )
            first += count


def build_optimizer(
    model: Embedder | Head,
    objective: torch.nn.Module,
    lr: float,
    weight_decay: float,
    head_lr: float,
) -> Optimizers:
    """AdamW; the embedding head learns `head_lr` times as fast as the trunk.

    Biases and normalization parameters are not decayed. Parameters of the objective, where it has
    any, learn like the head, times the `lr_factor` of the module they are in, if it has one; those
    of sparse tables (`torch.nn.Embedding`) by SparseAdam, which updates, and moves the averages of,
    the rows of a step alone.
    """
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        factor = head_lr if name.startswith("head.") else 1.0
        decay = weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((factor, decay), []).append(parameter)
    tables: dict[float, list[torch.nn.Parameter]] = {}
    for module in objective.modules():
        factor = head_lr * getattr(module, "lr_factor", 1.0)
        if isinstance(module, torch.nn.Embedding) and module.sparse:
            tables.setdefault(factor, []).extend(module.parameters())
        elif own := list(module.parameters(recurse=False)):
            groups.setdefault((factor, 0.0), []).extend(own)
    adam: torch.optim.Optimizer = torch.optim.AdamW(
        [
            {"params": parameters, "weight_decay": decay, "lr_factor": factor}
            for (factor, decay), parameters in groups.items()
        ],
        lr=lr,
    )
    if not tables:
        return Optimizers(adam)
    lazy = torch.optim.SparseAdam(
        [{"params": parameters, "lr_factor": factor} for factor, parameters in tables.items()],
        lr=lr,
    )
    return Optimizers(adam, lazy)


def learning_rate(step: int, total: int, base: float, warmup: int) -> float:
    """Linear warm-up over `warmup` steps, then a cosine down to 0 at step `total`."""
    if step < warmup:
        return base * (step + 1) / warmup
    return base * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def set_learning_rate(optimizer: Optimizers | torch.optim.Optimizer, value: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = value * group["lr_factor"]
