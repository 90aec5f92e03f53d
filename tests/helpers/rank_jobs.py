"""What a rank does in the tests of world size and resume; the pool's processes import this."""

import unittest.mock
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from rhs import distributed
from rhs.build import build
from rhs.data.plan import Slot
from rhs.errors import UserError
from rhs.training import checkpoint, loop, worker

FEATURES, DIM = 12, 8


def small_model(dtype: torch.dtype) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(FEATURES, 16), nn.Tanh(), nn.Linear(16, DIM)).to(dtype)


def batch(step: int, labels: list[int], dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """The same global batch on every rank: noisy class prototypes [B, FEATURES], labels [B]."""
    labels_B = np.roll(np.array(labels), 3 * step)  # other classes on other ranks next time
    prototypes = np.random.default_rng(0).normal(size=(max(labels) + 1, FEATURES))
    noise = np.random.default_rng([1, step]).normal(size=(len(labels), FEATURES))
    return torch.tensor(prototypes[labels_B] + noise, dtype=dtype), torch.tensor(labels_B)


def two_steps(method: dict, dtype_name: str, labels: list[int], progress: float) -> list[dict]:
    """Loss, gradients, diagnostics and memories after each of two steps, as arrays."""
    dtype = getattr(torch, dtype_name)
    model = small_model(dtype)
    objective = build(method)
    objective.prepare(max(labels) + 1, DIM)
    objective.to(dtype)
    trained = model
    if torch.distributed.is_initialized():
        trained = DistributedDataParallel(model)
    optimizer = torch.optim.SGD([*model.parameters(), *objective.parameters()], lr=0.5)
    seen = []
    for step in range(2):
        images, targets = batch(step, labels, dtype)
        share = len(labels) // distributed.world_size()
        mine = slice(distributed.rank() * share, (distributed.rank() + 1) * share)
        torch.manual_seed(step)
        loss, diagnostics = loop.training_step(
            trained, objective, optimizer, images[mine], targets[mine], progress
        )
        seen.append(
            {"loss": loss.numpy().copy()}
            | {f"diagnostic {k}": v.numpy().copy() for k, v in diagnostics.items()}
            | {f"gradient {k}": v.grad.numpy().copy() for k, v in model.named_parameters()}
            | {f"gradient {k}": v.grad.numpy().copy() for k, v in objective.named_parameters()}
            | {f"memory {k}": v.numpy().copy() for k, v in objective.named_buffers()}
        )
        optimizer.step()
    return seen


class Constant:
    """A loader whose images are all ones, but on the last rank `bad` in step `when`."""

    def __init__(self, bad: float, when: int):
        self.bad, self.when = bad, when
        self.plan = unittest.mock.Mock(steps=4, batch_size=8)

    def epoch(self, epoch: int):
        share = 8 // distributed.world_size()
        last = distributed.rank() == distributed.world_size() - 1
        for step in range(self.plan.steps):
            images = torch.ones(share, FEATURES)
            if last and step == self.when:
                images[-1] = self.bad
            slot = Slot(np.arange(8), np.zeros(8)).local(
                distributed.rank(), distributed.world_size()
            )
            yield images, torch.from_numpy(slot.image // 2)


def train_on_a_bad_image(method: dict, bad: float) -> tuple[str, int, bool]:
    """The message of the error, updates made before it, and whether all weights are finite."""
    model = small_model(torch.float32)
    objective = build(method)
    objective.prepare(4, DIM)
    optimizer = torch.optim.SGD([{"params": list(model.parameters()), "lr_factor": 1.0}], lr=0.1)
    updates = []
    optimizer.register_step_post_hook(lambda *_: updates.append(1))
    settings = loop.Settings(epochs=1, lr=0.1, warmup=0, precision="float32", seed=0)
    wrapped = DistributedDataParallel(model)
    try:
        loop.train(
            wrapped, objective, optimizer, Constant(bad, when=2), settings, loop.Progress(),
            torch.device("cpu"), lambda progress, times: None, lambda line: None,
        )  # fmt: skip
        message = ""
    except UserError as error:
        message = str(error)
    finite = all(bool(torch.isfinite(p).all()) for p in model.parameters())
    return message, len(updates), finite


def refused_world(plan) -> str:
    """What a loader says to a number of ranks that does not divide the batch."""
    from rhs.data.loader import TrainLoader
    from rhs.data.transforms import Augmentation

    try:
        TrainLoader(None, plan, Augmentation(), 8, distributed.rank(), distributed.world_size())
    except ValueError as error:
        return f"{type(error).__name__}: {error}"
    return ""


class Stopped(Exception):
    """Stands for whatever ends a process."""


def train_until(
    params: dict, shards: Path, checkpoints: Path, after_epoch: int = 0, at_step: int = -1
) -> tuple[bool, list[str]]:
    """One rank's whole work, which may end early: whether it came through, and the lines it said.

    Args:
        after_epoch: end when this epoch reports; 0: never.
        at_step: end before this step, counted from the start of this call; -1: never.
    """
    lines: list[str] = []
    real, count = loop.training_step, [0]

    def counted(*args):
        if count[0] == at_step:
            raise Stopped
        count[0] += 1
        return real(*args)

    def report(row: dict) -> None:
        if row["epoch"] == after_epoch:
            raise Stopped

    with unittest.mock.patch.object(loop, "training_step", counted):
        try:
            worker.work(params, shards, checkpoints, torch.device("cpu"), report, lines.append)
        except Stopped:
            return False, lines
    return True, lines


def final_tensors(checkpoints: Path) -> tuple[dict[str, np.ndarray], dict]:
    """The newest checkpoint."""
    found = checkpoint.load_latest(checkpoints)
    assert found is not None
    tensors, state = found
    return {name: value.numpy() for name, value in tensors.items()}, state
