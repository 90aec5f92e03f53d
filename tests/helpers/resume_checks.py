"""What the tests of interrupted runs share."""

import os
from pathlib import Path

import numpy as np
from rank_jobs import final_tensors, train_until
from tiny_project import small_params

from rhs.config.settings import Params

STEPS = 5  # an epoch of the tiny data set has, see test_the_tiny_epoch


def params(method: str = "rhs_npair", every_steps: int | None = None) -> Params:
    often = f"cluster.checkpoint.every_steps={'null' if every_steps is None else every_steps}"
    return small_params(f"method={method}", often)


def straight_runs(gloo_pool, shards: Path, tmp_path_factory, *world_sizes: int) -> dict:
    """{world size: checkpoint of a run of three epochs without a stop}."""
    finals = {}
    for world_size in world_sizes:
        folder = tmp_path_factory.mktemp(f"straight{world_size}")
        answers = gloo_pool.run(train_until, world_size, params(), shards, folder)
        assert all(done for done, _ in answers)
        finals[world_size] = final_tensors(folder)
    return finals


def assert_bit_equal(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(other[name], value, err_msg=name, strict=True)


def numbers(state: dict) -> list[tuple]:
    """All of the history: there is nothing in it but what parameters and data make."""
    return [tuple(row.values()) for row in state["history"]]


def damage_newest(checkpoints: Path) -> None:
    newest = max(checkpoints.glob("*.safetensors"))
    os.truncate(newest, newest.stat().st_size // 2)
