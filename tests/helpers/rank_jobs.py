"""What a rank does in the tests of world size and resume; the pool's processes import this."""

import unittest.mock
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from injector import Ended, Injury, inflicted
from tiny_project import prepared, train_config
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from rhs.config.settings import Params
from rhs.data.batch_sampler import BatchIndices
from rhs.data.shards import ShardedImages
from rhs.distributed import collectives
from rhs.distributed.supervisor import deferred_signals
from rhs.errors import UserError
from rhs.storage.store import FolderStore
from rhs.training import checkpoint, components, loop, worker
from rhs.training.checkpointer import TrainingStopped
from rhs.training.hooks import RunHooks

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


def share_of_training_set(model: nn.Module, classes: int, dtype: torch.dtype) -> list:
    """This rank's embeddings and labels, in batches: as many as its rank says, or none."""
    size = 5 * classes + 1
    cuts = {1: [0, size], 2: [0, 5, size], 3: [0, 0, 9, size], 4: [0, 7, 7, 9, size]}
    cuts = cuts[collectives.world_size()]
    rank = collectives.rank()
    images, labels = batch(99, [*range(classes), *range(0, classes, 2)] * 4, dtype)
    mine = slice(cuts[rank], cuts[rank + 1])
    with torch.no_grad():
        x = model(images[:size][mine])
    return list(zip(x.split(6), labels[:size][mine].split(6), strict=True)) if len(x) else []


def two_steps(method: dict, dtype_name: str, labels: list[int], progress: float) -> list[dict]:
    """Loss, gradients, diagnostics and memories after each of two steps, as arrays."""
    dtype, classes = getattr(torch, dtype_name), max(labels) + 6  # of which batches hold few
    model = small_model(dtype)
    objective = prepared(method, classes, DIM, dtype, samples=[])
    step = 0

    def seed_anew(*_) -> None:  # whatever the model has drawn for its share of the batch
        torch.manual_seed(step)

    objective.register_forward_pre_hook(seed_anew)
    trained = model
    if torch.distributed.is_initialized():
        trained = DistributedDataParallel(model)
    optimizer = torch.optim.SGD([*model.parameters(), *objective.parameters()], lr=0.1)
    seen = []
    for step in range(2):
        if objective.needs_refresh(0):
            objective.refresh(0, share_of_training_set(model, classes, dtype))
        images, targets = batch(step, labels, dtype)
        share = len(labels) // collectives.world_size()
        mine = slice(collectives.rank() * share, (collectives.rank() + 1) * share)
        values = None
        if step and objective.loss.continuous:  # the first step has the classes'
            values = images[:, :2]
        loss, diagnostics = loop.training_step(
            trained, objective, optimizer, images[mine], targets, progress, values=values
        )
        seen.append(
            arrays("loss", {"": loss})
            | arrays("diagnostic", diagnostics)
            | arrays("gradient", {k: v.grad for k, v in model.named_parameters()})
            | arrays("gradient", {k: v.grad for k, v in objective.named_parameters()})
            | arrays("memory", dict(objective.named_buffers()))
        )
        optimizer.step()
    return seen


def arrays(kind: str, tensors: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Copies; of sparse gradients dense ones."""
    return {
        f"{kind} {name}": value.detach().to_dense().numpy().copy()
        for name, value in tensors.items()
    }


def many_times_two_steps(cases: list[tuple]) -> list[list[dict]]:
    return [two_steps(*case) for case in cases]


class Constant:
    """A loader whose images are all ones, but on the last rank `bad` in step `when`."""

    def __init__(self, bad: float, when: int):
        self.bad, self.when = bad, when
        self.plan = SimpleNamespace(steps=4, batch_size=8, adaptive=False)

    def epoch(self, epoch: int, start: int = 0):
        last = collectives.rank() == collectives.world_size() - 1
        for step in range(self.plan.steps):
            ((images, _),) = self.evaluation_views()
            if last and step == self.when:
                images[-1] = self.bad
            yield images, torch.arange(self.plan.batch_size) // 2

    def evaluation_views(self):
        slot = BatchIndices(np.arange(8), np.zeros(8)).local(
            collectives.rank(), collectives.world_size()
        )
        yield torch.ones(len(slot.index), FEATURES), torch.from_numpy(slot.index // 2)

    def describe(self, epoch: int, step: int) -> str:
        return "all ones"


def train_on_bad_images(methods: list[dict], bad: float) -> list[tuple[str, int, bool]]:
    """For each method the message of the error, updates made before it, and whether all weights
    are finite."""
    return [train_on_a_bad_image(method, bad) for method in methods]


def train_on_a_bad_image(method: dict, bad: float) -> tuple[str, int, bool]:
    model = small_model(torch.float32)
    objective = prepared(method, 4, DIM, torch.float32)
    parameters = [*model.parameters(), *objective.parameters()]
    optimizer = torch.optim.SGD([{"params": parameters, "lr_factor": 1.0}], lr=0.1)
    updates = []
    optimizer.register_step_post_hook(lambda *_: updates.append(1))
    settings = train_config(epochs=1, lr=0.1, warmup=0)
    wrapped = DistributedDataParallel(model)
    try:
        loop.train(
            wrapped,
            objective,
            optimizer,
            Constant(bad, when=2),
            settings,
            loop.Progress(),
            seed=0,
            device=torch.device("cpu"),
            end_of_epoch=lambda progress, times: None,
            hooks=RunHooks(),
        )
        message = ""
    except UserError as error:
        message = str(error)
    return message, len(updates), all(bool(torch.isfinite(p).all()) for p in parameters)


def refused_world(plan) -> str:
    """What a loader says to a number of ranks that does not divide the batch."""
    from rhs.data.loader import TrainLoader
    from rhs.data.transforms import Augmentation

    try:
        TrainLoader(None, plan, Augmentation(), 8, collectives.rank(), collectives.world_size())
    except ValueError as error:
        return f"{type(error).__name__}: {error}"
    return ""


def open_on_a_full_disk(params: Params, shards: Path, checkpoints: Path, full: int) -> str:
    """What `train_rank` raises where the disk of one rank has no space."""

    def open_images(*_):
        if collectives.rank() == full:
            raise UserError("no space here")
        return ShardedImages(shards, "train")

    with unittest.mock.patch.object(components, "open_images", open_images):
        try:
            worker.train_rank(
                params, shards, FolderStore(checkpoints), torch.device("cpu"), RunHooks()
            )
        except UserError as error:
            return f"{type(error).__name__}: {error}"
    return ""


def train_until(
    params: Params, shards: Path, checkpoints: Path, injury: Injury | None = None
) -> tuple[bool, list[str]]:
    """One rank's work, which may end early: whether it came through, and the lines it said."""
    lines: list[str] = []
    with inflicted(injury), deferred_signals() as signals:
        try:
            worker.train_rank(
                params,
                shards,
                FolderStore(checkpoints),
                torch.device("cpu"),
                RunHooks(say=lines.append, stopping=lambda: bool(signals)),
            )
        except (Ended, TrainingStopped):
            return False, lines
    return True, lines


def final_tensors(checkpoints: Path) -> tuple[dict[str, np.ndarray], dict]:
    """The newest checkpoint."""
    found = checkpoint.load_latest(FolderStore(checkpoints))
    assert found is not None
    tensors, state = found
    return {name: value.numpy() for name, value in tensors.items()}, state
