"""Ranks of other seeds, other starts and other numbers of rows compute what one process does.

New files in conf/method/ are picked up.
"""

import numpy as np
import pytest
import torch
from apart_jobs import (
    LAST,
    SEED,
    SHARES,
    gathered_of,
    numbers_of_its_own,
    steps_apart,
    steps_in_tiles,
    without_a_row,
)
from tiny_project import METHODS, method_config

RTOL = 1e-10
# What no file of conf/method/ draws or learns by itself.
MORE = {
    "sampled signatures": ("normalized_softmax", {"loss": {"sampled": 3}}),
    "sampled signatures, from means": ("schem", {"signatures": {"from_means": True, "sampled": 1}}),
    "random negatives, rotated": ("rhs_triplet", {"mining": {"negatives": "random"}}),
    "a boundary for each class": ("margin", {"loss": {"per_class": True, "regularization": 0.1}}),
    "a library's loss that learns": (
        "pml",
        {"loss": {"_target_": "pytorch_metric_learning.losses.ProxyAnchorLoss", "_partial_": True}},
    ),
    "a library's miner that draws": (
        "pml",
        {
            "loss": {"_target_": "pytorch_metric_learning.losses.TripletMarginLoss"},
            "miner": {"_target_": "pytorch_metric_learning.miners.DistanceWeightedMiner"},
        },
    ),
}


def configured(name: str) -> dict:
    base, changes = MORE.get(name, (name, {}))
    config = dict(method_config(base))
    for part, change in changes.items():
        whole = "_target_" in change
        config[part] = change if whole else config[part] | change
    return config


DRAWN = [
    name
    for name in METHODS
    if any(
        word in str(method_config(name))
        for word in ("IntraClass", "'random'", "distance_weighted", "NormalizedSoftmax")
    )
]
NAMES = [*METHODS, *MORE]
PIECELESS = [name for name in NAMES if "pml" in configured(name)["_target_"]]


@pytest.fixture(scope="module")
def alone() -> dict[str, list[dict]]:
    return dict(zip(NAMES, steps_apart([configured(name) for name in NAMES]), strict=True))


@pytest.mark.parametrize(
    ("world_size", "names"), [(2, [*DRAWN, *MORE]), (3, NAMES), (4, [*DRAWN, "rhs_npair"])]
)
def test_methods_on_ranks_that_differ(gloo_pool, alone, world_size, names):
    answers = gloo_pool.run(steps_apart, world_size, [configured(name) for name in names])
    for rank, saw in enumerate(answers):
        for name, other in zip(names, saw, strict=True):
            for step, (expected, made) in enumerate(zip(alone[name], other, strict=True)):
                assert_same(expected, made, f"{name}, rank {rank} of {world_size}, step {step}: ")


SHARED = [name for name in NAMES if name not in PIECELESS]


@pytest.mark.parametrize(("world_size", "tile"), [(1, 3), (2, None), (3, 2), (4, 3)])
def test_methods_whose_rows_are_shared_and_in_tiles(gloo_pool, alone, world_size, tile):
    """Shares and tiles that divide nothing evenly, and ranks that differ."""
    answers = gloo_pool.run(steps_in_tiles, world_size, [configured(n) for n in SHARED], tile)
    for rank, saw in enumerate(answers):
        for name, other in zip(SHARED, saw, strict=True):
            for step, (expected, made) in enumerate(zip(alone[name], other, strict=True)):
                where = f"{name}, tile {tile}, rank {rank} of {world_size}, step {step}: "
                assert_same(expected, made, where)


def assert_same(expected: dict, made: dict, where: str) -> None:
    assert expected.keys() == made.keys()
    largest = max((float(np.abs(x).max(initial=0)) for x in expected.values()), default=0.0)
    for what, value in expected.items():
        np.testing.assert_allclose(made[what], value, RTOL, RTOL * largest, err_msg=where + what)


def test_the_comparison_is_of_rows_that_are_not_even():
    for shares in (SHARES, LAST):
        assert {sum(counts) for counts in shares.values()} == {sum(shares[1])}
        assert all(len(set(shares[world_size])) > 1 for world_size in (2, 3, 4))
        assert any(0 in counts for counts in shares.values())


def test_a_rank_goes_on_with_random_numbers_of_its_own(gloo_pool):
    torch.manual_seed(SEED)
    expected = torch.rand(3).tolist(), torch.rand(3).tolist()
    answers = gloo_pool.run(numbers_of_its_own, 3)
    assert answers[0] == expected
    for rank in (1, 2):
        torch.manual_seed(SEED + rank)
        assert answers[rank] == (expected[0], torch.rand(3).tolist())


@pytest.mark.parametrize("world_size", [1, 2])
def test_a_batch_without_a_row_is_refused_on_every_rank(gloo_pool, world_size):
    said = gloo_pool.run(without_a_row, world_size, method_config("rhs_npair"))
    assert said == ["The batch is empty: no worker has a row of it."] * world_size


@pytest.mark.parametrize("counts", [[2, 2, 2], [3, 0, 1], [0, 0, 4], [0, 0, 0]])
def test_rows_are_gathered_in_the_order_of_ranks(gloo_pool, counts):
    ranks = np.repeat(np.arange(3.0), counts)[:, None].repeat(2, axis=1)
    slopes = np.split(3 * np.arange(ranks.size).reshape(ranks.shape), np.cumsum(counts)[:-1])
    for rank, (whole, slope) in enumerate(gloo_pool.run(gathered_of, 3, counts)):
        np.testing.assert_array_equal(whole, ranks)
        np.testing.assert_array_equal(slope, slopes[rank])
