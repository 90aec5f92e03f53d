"""Differentiable gather, and sums, over the default process group, and nothing else.

The gather is written for a loss that every rank computes in full on the global batch, with
gradients averaged by DistributedDataParallel afterwards: the parameters then receive exactly the
gradient of one process that holds the whole batch. Without a process group each function is the
identity.
"""

import torch
import torch.distributed as dist

_group: dist.ProcessGroup | None = None  # the ranks that work; None: all


def world_size() -> int:
    """Number of ranks that work; 1 where no process group is initialized."""
    return dist.get_world_size(_group) if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's rank; 0 where no process group is initialized."""
    return dist.get_rank(_group) if world_size() > 1 else 0


def group() -> dist.ProcessGroup | None:
    """The ranks that work, for what makes its own collectives; None: the default group."""
    return _group


def only_first(count: int) -> bool:
    """From here on the first `count` ranks work and the others are not heard of again.

    Every rank calls it; False to those that are to leave.
    """
    global _group
    mine = dist.get_rank() if dist.is_initialized() else 0
    everyone = dist.get_world_size() if dist.is_initialized() else 1
    # Also where none leaves: a process may have been in another group before.
    _group = dist.new_group(list(range(count))) if count < everyone else None
    return mine < count


def gather(x_local: torch.Tensor) -> torch.Tensor:
    """Concatenate equal-sized tensors of all ranks, in rank order.

    Args:
        x_local: [B / W, ...], the same shape on every rank. Its gradient is W times that of the
            loss, which must be the same on every rank: what averaging over ranks sets right. So no
            gradient travels.

    Returns:
        [B, ...], the same on every rank.
    """
    if world_size() == 1:
        return x_local
    return _Gather.apply(x_local)


def all_reduce_sum(x: torch.Tensor) -> torch.Tensor:
    """Sum a tensor over all ranks, without gradient. x: any shape, the same on every rank."""
    if world_size() == 1:
        return x
    total = x.detach().clone()
    dist.all_reduce(total, group=_group)
    return total


def gather_uneven(
    parts: list[torch.Tensor], most: int, dim: int, device: torch.device
) -> torch.Tensor:
    """Concatenate what every rank holds, in rank order, without gradient.

    Args:
        parts: this rank's rows [?, dim], in any number of tensors, also none.
        most: rows that no rank exceeds, the same number on every rank.
    """
    own = torch.cat([torch.empty(0, dim, device=device), *(part.float() for part in parts)])
    if world_size() == 1:
        return own
    counts = _all_gather(torch.tensor([len(own)], device=device)).tolist()
    padded = own.new_zeros(most, dim)
    padded[: len(own)] = own
    whole = _all_gather(padded).split(most)
    return torch.cat([part[:count] for part, count in zip(whole, counts, strict=True)])


def from_first(x: torch.Tensor, device: torch.device | None = None) -> torch.Tensor:
    """Rank 0's tensor, on every rank; the same shape everywhere.

    Args:
        device: where the process group can send it from; its own if None.
    """
    if world_size() == 1:
        return x
    box = x.to(device or x.device).clone()
    dist.broadcast(box, src=0, group=_group)
    return box.to(x.device)


def _all_gather(x_local: torch.Tensor) -> torch.Tensor:
    parts = [torch.empty_like(x_local) for _ in range(world_size())]
    dist.all_gather(parts, x_local.contiguous(), group=_group)
    return torch.cat(parts)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x_local):
        ctx.rows = x_local.shape[0]
        return _all_gather(x_local)

    @staticmethod
    def backward(ctx, grad):
        # W equal gradients, one of each rank's loss, would add up to this.
        start = rank() * ctx.rows
        return world_size() * grad[start : start + ctx.rows]
