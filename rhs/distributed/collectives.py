"""Differentiable gather, and sums, over the default process group, and nothing else.

The gather is written for a loss of the global batch, which every rank computes in full or of which
each computes a share, with gradients averaged by DistributedDataParallel afterwards: the parameters
then receive exactly the gradient of one process that holds the whole batch. Without a process group
each function is the identity.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist

# torch 2.13 has new names for these two, and warns of the old ones.
if hasattr(dist, "all_gather_single"):
    all_gather_into, reduce_scatter_into = dist.all_gather_single, dist.reduce_scatter_single
else:
    all_gather_into, reduce_scatter_into = dist.all_gather_into_tensor, dist.reduce_scatter_tensor

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


def use_first_ranks(count: int) -> bool:
    """From here on the first `count` ranks work and the others are not heard of again.

    Every rank calls it; False to those that are to leave.
    """
    global _group
    mine = dist.get_rank() if dist.is_initialized() else 0
    everyone = dist.get_world_size() if dist.is_initialized() else 1
    # Also where none leaves: a process may have been in another group before.
    _group = dist.new_group(list(range(count))) if count < everyone else None
    return mine < count


def row_counts(x_local: torch.Tensor) -> list[int]:
    """Rows that each rank has, in rank order: one short message."""
    own = torch.tensor([len(x_local)], device=x_local.device)
    return (own if world_size() == 1 else _all_gather(own, [1] * world_size())).tolist()


def gather(
    x_local: torch.Tensor, counts: list[int] | None = None, shared: bool = False
) -> torch.Tensor:
    """Concatenate the rows of all ranks, in rank order.

    Args:
        x_local: [b, ...], the same shape on every rank but for b. Its gradient is W times that of
            the loss: what averaging over ranks sets right.
        counts: b of each rank, 0 too, as `row_counts` asks; None: the same b on every rank.
        shared: each rank computes a share of the loss (`sum_of_shares`), and the gradients of all
            shares are added up, in one message. Otherwise every rank computes the whole loss, and
            no gradient travels.

    Returns:
        [B, ...], the same on every rank.
    """
    if world_size() == 1:
        return x_local
    return _Gather.apply(x_local, counts or [len(x_local)] * world_size(), shared)


def sum_of_shares(x: torch.Tensor) -> torch.Tensor:
    """Add up what each rank has of a loss; to its own share each gives W times the gradient.

    Averaging over ranks divides it by W, as it does with those of `gather`.
    """
    return x if world_size() == 1 else _SumOfShares.apply(x)


def complete(x: torch.Tensor) -> torch.Tensor:
    """A parameter of the loss as it is; its gradient is added up over the ranks' shares.

    Its gradient is complete on every rank: it needs no averaging.
    """
    return x if world_size() == 1 else _Complete.apply(x)


def all_reduce_sum(x: torch.Tensor) -> torch.Tensor:
    """Sum a tensor over all ranks, without gradient. x: any shape, the same on every rank."""
    if world_size() == 1:
        return x
    total = x.detach().clone()
    dist.all_reduce(total, group=_group)
    return total


def broadcast_from_first(x: torch.Tensor, device: torch.device | None = None) -> torch.Tensor:
    """Rank 0's tensor, on every rank; the same shape everywhere.

    Args:
        device: where the process group can send it from; its own if None.
    """
    if world_size() == 1:
        return x
    box = x.to(device or x.device).clone()
    dist.broadcast(box, src=0, group=_group)
    return box.to(x.device)


@contextmanager
def drawing_alike(device: torch.device | None = None) -> Iterator[None]:
    """Within, every rank draws the random numbers of torch that rank 0 draws, whatever their seeds.

    Afterwards rank 0 has drawn them; a rank whose generators were others goes on with its own.

    Args:
        device: whose generator is shared beside the processor's; None: one that the process group
            can send from.
    """
    if world_size() == 1:
        yield
        return
    if device is None:
        nccl = dist.get_backend(_group) == "nccl"
        device = torch.device("cuda", torch.cuda.current_device()) if nccl else torch.device("cpu")
    own = _generators(device)
    first = [broadcast_from_first(state, device) for state in own]
    _set_generators(device, first)
    try:
        yield
    finally:
        if not all(map(torch.equal, own, first)):
            _set_generators(device, own)


def _generators(device: torch.device) -> list[torch.Tensor]:
    """States of the processor's generator and, if it is a GPU, of the device's."""
    on_gpu = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
    return [torch.get_rng_state(), *on_gpu]


def _set_generators(device: torch.device, states: list[torch.Tensor]) -> None:
    torch.set_rng_state(states[0])
    for state in states[1:]:
        torch.cuda.set_rng_state(state, device)


def _all_gather(x_local: torch.Tensor, counts: list[int]) -> torch.Tensor:
    if not (most := max(counts)):
        return x_local
    if len(x_local) < most:  # all send as many rows: not every backend takes uneven ones
        missing = x_local.new_zeros(most - len(x_local), *x_local.shape[1:])
        x_local = torch.cat([x_local, missing])
    whole = x_local.new_empty(len(counts) * most, *x_local.shape[1:])
    all_gather_into(whole, x_local.contiguous(), group=_group)
    if min(counts) == most:
        return whole
    parts = whole.split(most)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])


def _reduce_scatter(grad: torch.Tensor, counts: list[int]) -> torch.Tensor:
    """This rank's rows of the sum over ranks."""
    if dist.get_backend(_group) == "gloo":  # whose own reduce-scatter takes four times as long
        return all_reduce_sum(grad).split(counts)[rank()]
    most = max(counts)
    if min(counts) < most:
        padded = grad.new_zeros(len(counts), most, *grad.shape[1:])
        for place, part in zip(padded, grad.split(counts), strict=True):
            place[: len(part)] = part
        grad = padded.flatten(0, 1)
    own = grad.new_empty(most, *grad.shape[1:])
    reduce_scatter_into(own, grad.contiguous(), group=_group)
    return own[: counts[rank()]]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_local: torch.Tensor, counts: list[int], shared: bool) -> torch.Tensor:
        ctx.counts, ctx.shared = counts, shared
        return _all_gather(x_local, counts)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple:
        if ctx.shared:
            return _reduce_scatter(grad, ctx.counts), None, None
        # W equal gradients, one of each rank's loss, would add up to this.
        own = grad.split(ctx.counts)[rank()]
        return world_size() * own, None, None


class _SumOfShares(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return all_reduce_sum(x)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return grad * world_size()


class _Complete(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return all_reduce_sum(grad / world_size())
