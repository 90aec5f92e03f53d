"""Bare gloo processes on this machine, for what is measured between workers."""

import multiprocessing
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any


def run(function: Callable, world_size: int, *args: Any) -> list[Any]:
    """What `function(*args)` returns on each rank of a process group, one thread each."""
    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(folder) / "store")
        jobs = [(function, rank, world_size, store, args) for rank in range(world_size)]
        # A process that waits for the others takes no second job.
        with multiprocessing.get_context("spawn").Pool(world_size) as pool:
            answers = pool.starmap(_rank, jobs, chunksize=1)
            pool.close()
            pool.join()
            return answers


def _rank(function: Callable, rank: int, world_size: int, store: str, args: tuple) -> Any:
    join(rank, world_size, store)
    import torch.distributed as dist

    try:
        return function(*args)
    finally:
        dist.destroy_process_group()


def join(rank: int, world_size: int, store: str) -> None:
    """Enter a gloo group on the loopback interface, by a file that does not exist yet."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    group = dist.FileStore(store, world_size)
    dist.init_process_group("gloo", store=group, rank=rank, world_size=world_size)
