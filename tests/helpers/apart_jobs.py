"""What ranks do that were not made alike: other seeds, other starts, other numbers of rows."""

import unittest.mock

import numpy as np
import torch
from rank_jobs import DIM, arrays, batch, share_of_training_set, small_model
from torch.nn.parallel import DistributedDataParallel

from rhs.distributed import collectives
from rhs.errors import UserError
from rhs.methods import objective as objective_module
from rhs.methods.objective import build_objective, takes_values

LABELS = [2, 0, 1, 3, 0, 0, 5, 1, 3, 0, 2, 1, 3, 0, 4, 3]
# Rows of each rank; of later steps the same, shifted by one rank. The last batch is a short one.
SHARES = {1: [16], 2: [5, 11], 3: [0, 9, 7], 4: [3, 0, 12, 1]}
LAST = {1: [7], 2: [0, 7], 3: [2, 4, 1], 4: [7, 0, 0, 0]}
CLASSES, STEPS, SEED = 9, 4, 10


def shares(step: int) -> list[int]:
    """Rows of each rank in a step."""
    world_size = collectives.world_size()
    return LAST[world_size] if step == STEPS - 1 else np.roll(SHARES[world_size], step).tolist()


def steps_apart(methods: list[dict]) -> list[list[dict]]:
    """For each method, after each step, its loss, gradients and
    memories: of this rank, whose seed nobody else has."""
    return [_steps_apart(method) for method in methods]


def steps_in_tiles(methods: list[dict], tile: int | None) -> list[list[dict]]:
    """The same with the rows of the loss shared among ranks, as those of large batches are, and so
    many of them at a time."""
    with unittest.mock.patch.object(objective_module, "LARGE", 0):
        return steps_apart([method | {"tile": tile} for method in methods])


def _steps_apart(method: dict) -> list[dict]:
    torch.manual_seed(SEED + collectives.rank())
    dtype = torch.float64
    objective = build_objective(method)
    more = {}
    if takes_values(objective):
        more["values_CL"] = torch.arange(2.0 * CLASSES, dtype=dtype).view(CLASSES, 2).square()
    objective.prepare(CLASSES, DIM, **more)
    objective.to(dtype)
    seen = []
    with torch.no_grad():  # as of a loss that was built before the ranks met
        for p in objective.parameters():
            p += collectives.rank()
    model = small_model(dtype)
    torch.manual_seed(SEED + collectives.rank())
    trained = DistributedDataParallel(model) if collectives.world_size() > 1 else model
    optimizer = torch.optim.SGD([*model.parameters(), *objective.parameters()], lr=0.1)
    for step in range(STEPS):
        if objective.needs_refresh(step):
            objective.refresh(step, share_of_training_set(model, CLASSES, dtype))
        seen.append(_step(trained, model, objective, optimizer, step))
    return seen


def _step(trained, model, objective, optimizer, step: int) -> dict[str, np.ndarray]:
    counts = shares(step)
    images, labels = (part[: sum(counts)] for part in batch(step, LABELS, torch.float64))
    mine = [part.split(counts)[collectives.rank()] for part in (images, labels)]
    loss, _ = objective(trained(mine[0]), mine[1], step / STEPS)
    optimizer.zero_grad()
    loss.backward()
    made = (
        arrays("loss", {"": loss})
        | arrays("gradient", {k: v.grad for k, v in model.named_parameters()})
        | arrays("gradient", {k: v.grad for k, v in objective.named_parameters()})
    )
    optimizer.step()
    return made | arrays("memory", objective.state_dict())


def numbers_of_its_own() -> tuple[list[float], list[float]]:
    """What this rank draws together with the others, and afterwards."""
    torch.manual_seed(SEED + collectives.rank())
    with collectives.drawing_alike():
        together = torch.rand(3).tolist()
    return together, torch.rand(3).tolist()


def without_a_row(method: dict) -> str:
    """What is said of a batch that no rank has a row of."""
    objective = build_objective(method)
    objective.prepare(CLASSES, DIM)
    try:
        objective(torch.zeros(0, DIM, requires_grad=True), torch.zeros(0, dtype=torch.long))
    except UserError as error:
        return str(error)
    return ""


def gathered_of(counts: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """The gather of so many rows of each rank, and the gradient of this rank's."""
    own = torch.full((counts[collectives.rank()], 2), float(collectives.rank()))
    own.requires_grad_()
    whole = collectives.gather(own, collectives.row_counts(own))
    weights = torch.arange(float(whole.numel())).view_as(whole)
    (weights * whole).sum().backward()
    return whole.detach().numpy(), own.grad.numpy()
