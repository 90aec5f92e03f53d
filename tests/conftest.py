"""Fixtures that several test folders share."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from rhs.cluster import connect

# For the processes of the pool too, which inherit it. At the end: it must hide nothing.
sys.path.append(str(Path(__file__).parent / "helpers"))


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Small tensors are slower on many threads, and sums do not depend on the machine's cores."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """The one Ray of the whole test run: two CPUs, on this machine only."""
    import ray

    connect(OmegaConf.create({"num_cpus": 2}))
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def gloo_pool() -> Iterator:
    """The one set of processes of the whole test run that form process groups of 1 to 4 ranks."""
    from gloo_pool import GlooPool

    pool = GlooPool(4)
    yield pool
    pool.close()


@pytest.fixture(scope="session")
def tiny_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight training classes, three for validation, three to test: 16-pixel color patterns."""
    from tiny import write_shards

    folder = tmp_path_factory.mktemp("tiny") / "shards"
    return write_shards(folder, train=[5, 4, 6, 3, 4, 4, 2, 4], val=[4, 4, 4], test=[4, 4, 4])
