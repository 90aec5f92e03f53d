"""Collectives of torch.distributed: noted as they happen, and made again to be timed."""

import json
import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from benchmarks.support import cost_model
from rhs.distributed import collectives as module

ALL_REDUCE = dist.all_reduce  # what is wrapped must not count itself
ALL_GATHER, REDUCE_SCATTER = module.all_gather_into, module.reduce_scatter_into


@dataclass(frozen=True)
class Call:
    """One collective: what each rank hands in.

    Attributes:
        kind: all_gather, reduce_scatter or all_reduce.
        group: gather (embeddings, and what ranks that share a loss send), or gradient (DDP's).
        shape, dtype: of this rank's tensor.
    """

    kind: str
    group: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * getattr(torch, self.dtype).itemsize

    def sent(self, world_size: int) -> float:
        """Bytes that one rank sends, by the formulas of a ring."""
        if self.kind == "all_gather":
            return cost_model.all_gather_bytes(self.bytes * world_size, world_size)
        if self.kind == "reduce_scatter":
            return cost_model.reduce_scatter_bytes(self.bytes, world_size)
        return cost_model.all_reduce_bytes(self.bytes, world_size)


@contextmanager
def traced_collectives(network: DistributedDataParallel) -> Iterator[list[Call]]:
    """A list that every collective is added to as long as this lasts."""
    calls: list[Call] = []

    def note(kind: str, group: str, x: torch.Tensor) -> None:
        calls.append(Call(kind, group, tuple(x.shape), str(x.dtype).removeprefix("torch.")))

    def bucket(_, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
        note("all_reduce", "gradient", bucket.buffer())
        work = ALL_REDUCE(bucket.buffer().div_(dist.get_world_size()), async_op=True)
        return work.get_future().then(lambda done: done.value()[0])

    def all_reduce(x, *args, **kwargs):
        note("all_reduce", "gather", x)
        return ALL_REDUCE(x, *args, **kwargs)

    def all_gather(whole, x, *args, **kwargs):
        note("all_gather", "gather", x)
        return ALL_GATHER(whole, x, *args, **kwargs)

    def reduce_scatter(own, x, *args, **kwargs):
        note("reduce_scatter", "gather", x)
        return REDUCE_SCATTER(own, x, *args, **kwargs)

    network.register_comm_hook(None, bucket)
    dist.all_reduce = all_reduce  # type: ignore[assignment]
    module.all_gather_into, module.reduce_scatter_into = all_gather, reduce_scatter
    try:
        yield calls
    finally:
        dist.all_reduce = ALL_REDUCE
        module.all_gather_into, module.reduce_scatter_into = ALL_GATHER, REDUCE_SCATTER


def replay(parts: list[str], rounds: int) -> dict[str, float]:
    """Median seconds of each list of collectives, of the slower rank; all in turn, each round."""
    runs = {part: _runner([Call(**call) for call in json.loads(part)]) for part in parts}
    seen = torch.zeros(rounds, len(parts))
    for turn in tqdm(range(-2, rounds), "collectives", disable=module.rank() > 0 or None):
        for place, run in enumerate(runs.values()):
            dist.barrier()
            start = time.perf_counter()
            run()
            if turn >= 0:  # the first two warm up
                seen[turn, place] = time.perf_counter() - start
    dist.all_reduce(seen, dist.ReduceOp.MAX)
    return dict(zip(parts, (statistics.median(c) for c in seen.T.tolist()), strict=True))


def _runner(calls: list[Call]) -> Callable[[], None]:
    tensors = [torch.zeros(call.shape, dtype=getattr(torch, call.dtype)) for call in calls]

    def run() -> None:
        pending = []
        for call, x in zip(calls, tensors, strict=True):
            if call.kind == "all_gather":
                module.gather(x)
            elif call.kind == "reduce_scatter":
                module.reduce_scatter_into(x[: len(x) // module.world_size()].clone(), x)
            elif call.group == "gradient":  # DDP waits for its buckets at the end
                pending.append(dist.all_reduce(x, async_op=True))
            else:
                dist.all_reduce(x)
        for work in pending:
            work.wait()

    return run


def wire(repeats: int, interface: str = "lo") -> dict:
    """Bytes on the interface for an all-reduce and an all-gather, and what the formulas say."""
    size = dist.get_world_size()
    made: dict = {"world_size": size}
    calls = {
        "all_reduce": Call("all_reduce", "gradient", (1 << 20,), "float32"),
        "all_gather": Call("all_gather", "gather", (1 << 10, 512), "float32"),
    }
    for name, call in calls.items():
        run = _runner([call])
        run()
        dist.barrier()
        before = _sent(interface)
        dist.barrier()
        for _ in range(repeats):
            run()
        dist.barrier()
        seen = _sent(interface) - before
        dist.barrier()
        made[name] = {"seen": seen / repeats / size, "formula": call.sent(size)}
    return made


def _sent(interface: str) -> int:
    for line in Path("/proc/net/dev").read_text().splitlines():
        name, _, numbers = line.partition(":")
        if name.strip() == interface:
            return int(numbers.split()[8])
    raise OSError(f"there is no interface {interface}")
