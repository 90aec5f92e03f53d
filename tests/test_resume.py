"""A run that was stopped anywhere ends like one that was not."""

import pytest
from injector import Injury
from rank_jobs import final_tensors, train_until
from resume_checks import STEPS, assert_bit_equal, damage_newest, numbers, params, straight_runs

# Where a try ends, and where the next one goes on: checkpoints are every two steps, and at the end
# of each epoch of five.
STOPS = {
    "before the first step": (Injury("step", 0), None),
    "before the first checkpoint": (Injury("step", 1), None),
    "mid-way in the first epoch": (Injury("step", 3), "after step 2/5 of epoch 1"),
    "on the edge of an epoch": (Injury("edge", 1), "after step 4/5 of epoch 1"),
    "before the first step after an edge": (Injury("step", STEPS), "after epoch 1"),
    "mid-way in the second epoch": (Injury("step", STEPS + 3), "after step 3/5 of epoch 2"),
    "at the very end": (Injury("edge", 3), "after step 4/5 of epoch 3"),
}


@pytest.fixture(scope="module")
def straight(gloo_pool, tiny_shards, tmp_path_factory):
    """{world size: checkpoint of a run of three epochs without a stop}."""
    return straight_runs(gloo_pool, tiny_shards, tmp_path_factory, 1, 2)


def test_the_tiny_epoch(straight):
    tensors, state = straight[1]
    assert [row["step"] for row in state["history"]] == [STEPS, 2 * STEPS, 3 * STEPS]
    kinds = {name.split(".")[0] for name in tensors}
    assert kinds == {"model", "objective", "optimizer"}
    assert tensors["objective.centers.updates_C"].sum() > 0
    assert tensors["optimizer.0.exp_avg_sq"].any()
    assert state["history"][-1]["rotations_unmoved"] < 0.5


@pytest.mark.parametrize("world_size", [1, 2])
@pytest.mark.parametrize("stop", STOPS)
def test_stopped_and_run_again_it_ends_bit_equal(
    gloo_pool, tiny_shards, straight, tmp_path, stop, world_size
):
    injury, continued_after = STOPS[stop]
    job = (params(every_steps=2), tiny_shards, tmp_path)
    (_, (finished, _)), *_ = gloo_pool.attempt(train_until, world_size, *job, injury)
    assert not finished
    again = gloo_pool.run(train_until, world_size, *job)
    assert all(done for done, _ in again)
    continued = [line for line in again[0][1] if line.startswith("continuing")]
    assert continued == ([f"continuing {continued_after}"] if continued_after else [])
    tensors, state = final_tensors(tmp_path)
    expected_tensors, expected_state = straight[world_size]
    assert_bit_equal(expected_tensors, tensors)
    assert state == expected_state


def test_stopped_again_and_again(gloo_pool, tiny_shards, straight, tmp_path):
    job = (params(every_steps=1), tiny_shards, tmp_path)
    for step in (1, 3, 0, 4, 2):  # counted from where the try before had come to
        gloo_pool.run(train_until, 1, *job, Injury("step", step))
    gloo_pool.run(train_until, 1, *job)
    assert_bit_equal(straight[1][0], final_tensors(tmp_path)[0])


def test_a_damaged_newest_checkpoint_costs_some_steps_and_nothing_else(
    gloo_pool, tiny_shards, straight, tmp_path
):
    job = (params(every_steps=2), tiny_shards, tmp_path)
    gloo_pool.run(train_until, 2, *job, Injury("step", 9))
    damage_newest(tmp_path)
    ((_, lines), _) = gloo_pool.run(train_until, 2, *job)
    assert any("checkpoint 8 in" in line and "cannot be read" in line for line in lines)
    assert "continuing after step 1/5 of epoch 2" in lines
    assert_bit_equal(straight[2][0], final_tensors(tmp_path)[0])


@pytest.mark.parametrize("sizes", [(2, 1), (1, 2), (4, 2, 1, 4)])
def test_another_world_size_continues_the_same_curve(
    gloo_pool, tiny_shards, straight, tmp_path, sizes
):
    job = (params(every_steps=2), tiny_shards, tmp_path)
    *first, last = sizes
    for size in first:
        gloo_pool.run(train_until, size, *job, Injury("step", 3))
    gloo_pool.run(train_until, last, *job)
    _, state = final_tensors(tmp_path)
    for other in straight.values():
        for row, expected in zip(numbers(state), numbers(other[1]), strict=True):
            assert row == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_the_curve_is_the_same_on_one_and_two_ranks(straight):
    for one, two in zip(numbers(straight[1][1]), numbers(straight[2][1]), strict=True):
        assert two == pytest.approx(one, rel=1e-5, abs=1e-6)


# What else a run may carry from step to step: class means and variances of the whole training set,
# signatures with an optimizer of their own, a learned boundary, batches that the model composes.
STATEFUL = ("rhs_npair_epoch", "rhs_npair_proxy", "iaa_multi_similarity", "margin", "schem")


@pytest.mark.parametrize("method", STATEFUL)
def test_everything_a_method_keeps_is_resumed(gloo_pool, tiny_shards, tmp_path, method):
    config = params(method, every_steps=2)
    finals = {}
    for name, world_size, stop in (
        ("straight", 2, None),
        ("stopped", 2, Injury("step", STEPS + 4)),
        ("alone", 1, None),
    ):
        job = (config, tiny_shards, tmp_path / name)
        if stop:
            gloo_pool.run(train_until, world_size, *job, stop)
        gloo_pool.run(train_until, world_size, *job)
        finals[name] = final_tensors(tmp_path / name)
    assert_bit_equal(finals["straight"][0], finals["stopped"][0])
    assert numbers(finals["straight"][1]) == numbers(finals["stopped"][1])
    # and one process alone has drawn the same curve
    pairs = zip(numbers(finals["alone"][1]), numbers(finals["straight"][1]), strict=True)
    for one, two in pairs:
        assert two == pytest.approx(one, rel=1e-4, abs=1e-5)
