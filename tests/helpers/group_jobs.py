"""What ranks do with several centers a class."""

import numpy as np
import torch

from rhs.distributed import collectives
from rhs.methods.centers import SubCenters

CLASSES, DIM, ROWS, STEPS = 5, 3, 16, 6


def group_batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of classes of any size, in random order: float64 [ROWS, DIM], labels [ROWS]."""
    random = torch.Generator().manual_seed(0)
    return [
        (
            torch.randn(ROWS, DIM, generator=random, dtype=torch.float64),
            torch.randint(CLASSES, (ROWS,), generator=random),
        )
        for _ in range(STEPS)
    ]


def group_centers(groups: int, momentum: float) -> list[np.ndarray]:
    """The centers [ROWS, DIM] of each step, and at last the memories, of this rank."""
    centers = SubCenters(groups, momentum)
    centers.prepare(CLASSES, DIM)
    centers.double()
    share, first = ROWS // collectives.world_size(), collectives.rank()
    seen = []
    for x, labels in group_batches():
        mine = slice(first * share, (first + 1) * share)
        seen.append(centers(collectives.gather(x[mine]), labels).numpy())
    return [*seen, *(value.numpy() for value in centers.state_dict().values())]
