"""Fixtures that several test folders share."""

from collections.abc import Iterator

import pytest
from omegaconf import OmegaConf

from rhs.cluster import connect


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """The one Ray of the whole test run: two CPUs, on this machine only."""
    import ray

    connect(OmegaConf.create({"num_cpus": 2}))
    yield
    ray.shutdown()
