"""What ranks do with the library's losses: steps of a model, as a user's loop takes them."""

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import rhs
from rhs.distributed import collectives

C, D, STEPS = 6, 4, 4
IDS = torch.tensor([0, 1, 2, 30, 400, 5000])  # whatever a shop numbers its products by
ROWS = {1: [12], 2: [7, 5], 3: [6, 0, 6]}
LAST = {1: [7], 2: [7, 0], 3: [2, 4, 1]}


def seen(name: str, wrapper: str = "ddp") -> list[np.ndarray]:
    """Losses, and at the end the model and the loss's state, of a rank whose seed nobody has."""
    world_size, rank = collectives.world_size(), collectives.rank()
    torch.manual_seed(100 + rank)
    loss_fn = rhs.create_loss(name, C, D, total_steps=STEPS, **_values(name)).double()
    if rank == 0:
        loss_fn.load_state_dict(_start(name))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, D)).double()
    trained = _wrapped(model, wrapper) if world_size > 1 else model
    parameters = [*trained.parameters(), *loss_fn.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    torch.manual_seed(100 + rank)
    losses = []
    for step in range(STEPS):
        counts = (LAST if step == STEPS - 1 else ROWS)[world_size]
        images, labels = (part.split(counts)[rank] for part in _batch(step, sum(counts)))
        if step == 0 and loss_fn.needs_refresh:
            loss_fn.refresh([(images, labels)], model)
        torch.manual_seed(100 + rank if rank else step)
        loss = loss_fn(trained(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    weights = [_whole(p) for p in trained.parameters()]
    kept = [v for k, v in loss_fn.state_dict().items() if k != "_extra_state"]
    return [np.array(losses), *(t.detach().double().numpy().copy() for t in [*weights, *kept])]


def shares_of_sampler(labels: list[int], start: dict | None) -> list[list[int]]:
    """This rank's rows of two epochs, or of what follows a state."""
    sampler = rhs.BalancedBatchSampler(labels, classes=4, per_class=3, seed=5)
    if start:
        sampler.load_state_dict(start)
    return [*sampler, *sampler]


def of_nine(labels: list[int]) -> str:
    """What the first batch of nine comes to."""
    try:
        next(iter(rhs.BalancedBatchSampler(labels, classes=3, per_class=3)))
    except rhs.UserError as error:
        return str(error)
    return "taken"


def _values(name: str) -> dict:
    values = torch.arange(2.0 * C, dtype=torch.float64).reshape(C, 2)
    return {"class_values": values} if name == "log_ratio" else {}


def _start(name: str) -> dict:
    torch.manual_seed(7)
    return rhs.create_loss(name, C, D, total_steps=STEPS, **_values(name)).double().state_dict()


def _batch(step: int, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(step)
    images = torch.randn(rows, 5, generator=random, dtype=torch.float64)
    return images, IDS[(torch.arange(rows) + step) % 4]


def _wrapped(model: nn.Module, wrapper: str) -> nn.Module:
    if wrapper == "ddp":
        return DistributedDataParallel(model)
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    fully_shard(model, mesh=init_device_mesh("cpu", (collectives.world_size(),)))
    return model


def _whole(parameter: torch.Tensor) -> torch.Tensor:
    return parameter.full_tensor() if hasattr(parameter, "full_tensor") else parameter
