"""Loss and gradients of every method on 1, 2 and 4 ranks are those of one process.

New files in conf/method/ are picked up.
"""

import numpy as np
import pytest
from rank_jobs import refused_world, train_on_a_bad_image, two_steps
from tiny import METHODS, method_config

from rhs.data.plan import BatchPlan

CENTERS = "rhs.methods.centers."
MINING = {"_target_": "rhs.methods.mining.PairMining"}
# What conf/method/ does not combine by itself, as changes to one of its files.
VARIANTS = {
    "centers with gradient": ("rhs_npair", {"centers": {"_target_": CENTERS + "BatchCenters"}}),
    "not normalized": ("symm_npair", {"normalize": False, "scale": 1.0, "l2": 0.002}),
    "synthetic positives only": ("rhs_npair", {"mining": MINING | {"positives": "synthetic"}}),
}
RTOL = {"float64": 1e-10, "float32": 1e-5}
BATCHES = {
    # as the plan deals them: runs of one class
    "two_per_class": [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7],
    "four_per_class": [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4,
    # classes that straddle ranks, of 5, 4, 3, 2, 1 and 1 images
    "uneven": [2, 0, 1, 3, 0, 0, 5, 1, 3, 0, 2, 1, 3, 0, 4, 3],
}


def assert_same(one: list[dict], other: list[dict], rtol: float) -> None:
    for step, (expected, actual) in enumerate(zip(one, other, strict=True)):
        assert expected.keys() == actual.keys()
        for name, value in expected.items():
            # An entry that cancels to almost nothing has the rounding of its large terms.
            largest = 1.0 if name.startswith("diagnostic") else float(np.abs(value).max())
            atol = rtol * largest
            np.testing.assert_allclose(
                actual[name], value, rtol=rtol, atol=atol, err_msg=f"step {step}: {name}"
            )


@pytest.mark.parametrize("dtype", RTOL)
@pytest.mark.parametrize("labels", BATCHES)
@pytest.mark.parametrize("method", [*METHODS, *VARIANTS])
def test_every_world_size_computes_what_one_process_does(gloo_pool, method, labels, dtype):
    base, changes = VARIANTS.get(method, (method, {}))
    job = (method_config(base) | changes, dtype, BATCHES[labels], 0.6)
    one = two_steps(*job)
    assert any(np.abs(v).max() > 0 for k, v in one[0].items() if k.startswith("gradient"))
    for world_size in (1, 2, 4):
        for rank_saw in gloo_pool.run(two_steps, world_size, *job):
            assert_same(one, rank_saw, RTOL[dtype])


def test_the_reference_is_sensitive():
    """The comparison would notice a gradient that misses the samples of other ranks."""
    job = (method_config("npair"), "float64", BATCHES["two_per_class"], 0.6)
    whole = two_steps(*job)
    half = two_steps(*job[:2], BATCHES["two_per_class"][:8], 0.6)
    with pytest.raises(AssertionError):
        assert_same(whole, half, 1e-3)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("method", METHODS)
def test_a_loss_that_is_not_finite_stops_every_rank_before_the_update(gloo_pool, method, bad):
    answers = gloo_pool.run(train_on_a_bad_image, 2, method_config(method), bad)
    for message, updates, finite in answers:
        assert "epoch 1, step 3" in message
        assert updates == 2
        assert finite


def test_a_batch_that_does_not_divide_names_what_fits(gloo_pool):
    plan = BatchPlan(np.arange(20) // 4, classes=5, per_class=2, seed=0)
    for said in gloo_pool.run(refused_world, 4, plan):
        assert said.startswith("UserError")
        assert "(10)" in said
        assert "num_workers = 4" in said
        assert "2 workers would fit" in said
        assert "multiple of 4" in said
    assert gloo_pool.run(refused_world, 2, plan) == ["", ""]
