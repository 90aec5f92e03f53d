"""Loss and gradients of every method on 1, 2 and 4 ranks are those of one process.

New files in conf/method/ are picked up.
"""

import itertools

import numpy as np
import pytest
from rank_jobs import (
    many_times_two_steps,
    open_on_a_full_disk,
    refused_world,
    train_on_bad_images,
    two_steps,
)
from tiny_project import METHODS, method_config, small_params

from rhs.data.batch_sampler import BalancedBatchSampler

BATCH_CENTERS = {"_target_": "rhs.methods.centers.BatchCenters"}  # they have a gradient
BATCH_MINING = {"_target_": "rhs.methods.mining.batch.BatchMiner", "positives": "all"}
WEIGHTED = BATCH_MINING | {"negatives": "distance_weighted"}
# What conf/method/ does not combine by itself, as changes to one of its files.
VARIANTS = {
    "centers with gradient": ("rhs_npair", {"centers": BATCH_CENTERS}),
    "detached centers": (
        "rhs_npair",
        {"centers": BATCH_CENTERS, "generator": {"gradient": "center_detached"}},
    ),
    "radial gradient": ("rhs_npair_loo", {"generator": {"gradient": "positive"}}),
    "gradient of the anchor alone": ("rhs_npair_loo", {"generator": {"gradient": "anchor"}}),
    "spherical, centers with gradient": ("rhs_npair_spherical", {"centers": BATCH_CENTERS}),
    "renormalized, without the anchor": (
        "rhs_npair_loo",
        {"generator": {"surface": "renormalized", "schedule": "cosine"}},
    ),
    "signatures that points move": (
        "rhs_npair_proxy",
        {"centers": {"gradient": True}, "signatures": {"sampled": 2}},
    ),
    "sampled signatures": ("normalized_softmax", {"loss": {"sampled": 3}}),
    "signatures from means": ("schem", {"signatures": {"from_means": True, "sampled": 1}}),
    "a boundary for each class": ("margin", {"loss": {"per_class": True, "regularization": 0.1}}),
    "random negatives, rotated": ("rhs_npair", {"mining": BATCH_MINING | {"negatives": "random"}}),
    "weighted negatives, rotated": ("rhs_triplet", {"mining": WEIGHTED}),
    "weighted negatives, rotated with gradient": (
        "rhs_triplet",
        {
            "mining": WEIGHTED | {"positives": "random", "synthetic": "synthetic"},
            "centers": BATCH_CENTERS,
        },
    ),
    "every rotated point": ("rhs_lifted", {"mining": BATCH_MINING}),
    "semi-hard drawn points": ("iaa_triplet", {"mining": {"negatives": "semi_hard"}}),
    "drawn points, not normalized": ("iaa_contrastive", {"normalize": False}),
    "a library's loss that learns": (
        "pml",
        {"loss": {"_target_": "pytorch_metric_learning.losses.ProxyAnchorLoss", "_partial_": True}},
    ),
    "not normalized": ("symm_npair", {"normalize": False, "l2": 0.002}),
    "synthetic positives only": ("rhs_npair", {"mining": {"positives": "synthetic"}}),
}
RTOL = {"float64": 1e-10, "float32": 1e-5}
BATCHES = {
    # as the plan deals them: runs of one class
    "two_per_class": [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7],
    "four_per_class": [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4,
    # classes that straddle ranks, of 5, 4, 3, 2, 1 and 1 images
    "uneven": [2, 0, 1, 3, 0, 0, 5, 1, 3, 0, 2, 1, 3, 0, 4, 3],
}


def configured(name: str) -> dict:
    """A method file's settings, or a variant's, whose changes go into the parts they name."""
    base, changes = VARIANTS.get(name, (name, {}))
    config = dict(method_config(base))
    for key, value in changes.items():
        whole = not isinstance(value, dict) or "_target_" in value
        config[key] = value if whole else config[key] | value
    return config


def scale(seen: dict, kind: str) -> float:
    """The largest entry of all gradients, or of all memories: the size of what is rounded. An
    entry in which large terms cancel has their rounding."""
    if kind == "diagnostic":
        return 1.0
    return max(float(np.abs(value).max()) for name, value in seen.items() if name.startswith(kind))


def assert_same(one: list[dict], other: list[dict], rtol: float, what: str = "") -> None:
    for step, (expected, actual) in enumerate(zip(one, other, strict=True)):
        assert expected.keys() == actual.keys()
        for name, value in expected.items():
            np.testing.assert_allclose(
                actual[name],
                value,
                rtol=rtol,
                atol=rtol * scale(expected, name.split()[0]),
                err_msg=f"{what} step {step}: {name}",
            )


@pytest.mark.parametrize("method", [*METHODS, *VARIANTS])
def test_every_world_size_computes_what_one_process_does(gloo_pool, method):
    config = configured(method)
    kinds = list(itertools.product(BATCHES, RTOL))
    cases = [(config, dtype, BATCHES[labels], 0.6) for labels, dtype in kinds]
    alone = many_times_two_steps(cases)
    for one in alone:
        assert any(np.abs(v).max() > 0 for k, v in one[0].items() if k.startswith("gradient"))
    for world_size in (1, 2, 4):
        for rank, saw in enumerate(gloo_pool.run(many_times_two_steps, world_size, cases)):
            for (labels, dtype), one, other in zip(kinds, alone, saw, strict=True):
                what = f"rank {rank} of {world_size}, {labels}, {dtype},"
                assert_same(one, other, RTOL[dtype], what)


def test_the_reference_is_sensitive():
    """The comparison would notice a gradient that misses the samples of other ranks."""
    job = (method_config("npair"), "float64", BATCHES["two_per_class"], 0.6)
    whole = two_steps(*job)
    half = two_steps(*job[:2], BATCHES["two_per_class"][:8], 0.6)
    with pytest.raises(AssertionError):
        assert_same(whole, half, 1e-3)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_stops_every_rank_before_the_update(gloo_pool, bad):
    methods = [method_config(name) for name in METHODS]
    answers = gloo_pool.run(train_on_bad_images, 2, methods, bad)
    for answer in answers:
        for name, (message, updates, finite) in zip(METHODS, answer, strict=True):
            assert "epoch 1, step 3" in message, name
            assert updates == 2, name
            assert finite, name


def test_a_full_disk_of_one_node_ends_the_run_on_all(gloo_pool, tiny_shards, tmp_path):
    params = small_params()
    said = gloo_pool.run(open_on_a_full_disk, 2, params, tiny_shards, tmp_path, 1)
    assert said == [
        "FailedOnAnotherRank: Another worker could not open its images.",
        "UserError: no space here",
    ]


def test_a_batch_that_does_not_divide_names_what_fits(gloo_pool):
    plan = BalancedBatchSampler(np.arange(20) // 4, classes=5, per_class=2, seed=0)
    for said in gloo_pool.run(refused_world, 4, plan):
        assert said.startswith("UserError")
        assert "(10)" in said
        assert "num_workers = 4" in said
        assert "2 workers would fit" in said
        assert "multiple of 4" in said
    assert gloo_pool.run(refused_world, 2, plan) == ["", ""]
