"""A run that was stopped anywhere ends like one that was not."""

import os
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf
from rank_jobs import final_tensors, train_until
from tiny import small_params

from rhs.run import Run
from rhs.tracking import NullTracker
from rhs.training.worker import fit

STEPS = 5  # an epoch of the tiny data set has, see test_the_tiny_epoch
STOPS = {
    "before the first step": {"at_step": 0},
    "mid-way in the first epoch": {"at_step": 2},
    "on the edge of an epoch": {"after_epoch": 1},
    "before the first step after an edge": {"at_step": STEPS},
    "mid-way in the second epoch": {"at_step": STEPS + 3},
    "after the last epoch": {"after_epoch": 3},
}


def params() -> dict:
    return OmegaConf.to_container(small_params("method=rhs_npair"))


@pytest.fixture(scope="module")
def straight(gloo_pool, tiny_shards, tmp_path_factory):
    """{world size: checkpoint of a run of three epochs without a stop}."""
    finals = {}
    for world_size in (1, 2):
        folder = tmp_path_factory.mktemp(f"straight{world_size}")
        answers = gloo_pool.run(train_until, world_size, params(), tiny_shards, folder)
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
    job = (params(), tiny_shards, tmp_path)
    stopped = gloo_pool.run(train_until, world_size, *job, *arguments(**STOPS[stop]))
    assert not any(done for done, _ in stopped)
    again = gloo_pool.run(train_until, world_size, *job)
    assert all(done for done, _ in again)
    continued = [line for line in again[0][1] if line.startswith("continuing after epoch")]
    saved_before = STOPS[stop].get("after_epoch", STOPS[stop].get("at_step", 0) // STEPS)
    assert continued == ([f"continuing after epoch {saved_before}"] if saved_before else [])
    tensors, state = final_tensors(tmp_path)
    expected_tensors, expected_state = straight[world_size]
    assert_bit_equal(expected_tensors, tensors)
    assert numbers(state) == numbers(expected_state)


def arguments(after_epoch: int = 0, at_step: int = -1) -> tuple[int, int]:
    return after_epoch, at_step


def test_stopped_twice(gloo_pool, tiny_shards, straight, tmp_path):
    for stop in ({"at_step": 2}, {"at_step": 8}, {"at_step": 7}, {}):
        gloo_pool.run(train_until, 1, params(), tiny_shards, tmp_path, *arguments(**stop))
    assert_bit_equal(straight[1][0], final_tensors(tmp_path)[0])


def test_a_truncated_newest_checkpoint_costs_one_epoch_and_nothing_else(
    gloo_pool, tiny_shards, straight, tmp_path
):
    job = (params(), tiny_shards, tmp_path)
    gloo_pool.run(train_until, 2, *job, *arguments(after_epoch=2))
    newest = max(tmp_path.iterdir()) / "tensors.safetensors"
    os.truncate(newest, newest.stat().st_size // 2)
    ((_, lines), _) = gloo_pool.run(train_until, 2, *job)
    assert any("cannot be read" in line for line in lines)
    assert "continuing after epoch 1" in lines
    assert_bit_equal(straight[2][0], final_tensors(tmp_path)[0])


@pytest.mark.parametrize(("first", "then"), [(2, 1), (1, 2)])
@pytest.mark.parametrize("stop", ["on the edge of an epoch", "mid-way in the second epoch"])
def test_another_world_size_continues_the_same_curve(
    gloo_pool, tiny_shards, straight, tmp_path, stop, first, then
):
    job = (params(), tiny_shards, tmp_path)
    gloo_pool.run(train_until, first, *job, *arguments(**STOPS[stop]))
    gloo_pool.run(train_until, then, *job)
    _, state = final_tensors(tmp_path)
    for other in straight.values():
        for row, expected in zip(numbers(state), numbers(other[1]), strict=True):
            assert row == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_the_curve_is_the_same_on_one_and_two_ranks(straight):
    for one, two in zip(numbers(straight[1][1]), numbers(straight[2][1]), strict=True):
        assert two == pytest.approx(one, rel=1e-5, abs=1e-6)


def mortal_tracker(flag: Path, log: Path) -> NullTracker:
    """Takes metrics; after the first epoch it sees to it that its process dies amid the second."""

    # In here, so that it travels to the worker by value and the product needs no hook.
    class Mortal(NullTracker):
        def metrics(self, values: dict, step: int) -> None:
            with log.open("a") as file:
                file.write(f"{values['epoch']}\n")
            if flag.exists():
                return
            flag.touch()
            from rhs.training import loop

            real, steps = loop.training_step, []

            def deadly(*args):
                steps.append(1)
                if len(steps) == 3:
                    os._exit(1)
                return real(*args)

            loop.training_step = deadly

    return Mortal()


def test_a_worker_that_dies_is_replaced_and_the_run_ends_bit_equal(
    ray_cluster, tiny_shards, straight, tmp_path
):
    run = Run("tiny", tmp_path / "runs" / "tiny")
    settings = OmegaConf.merge(small_params("method=rhs_npair"), {"cluster": {"max_failures": 1}})
    assert settings.cluster.num_workers == 2
    fit(settings, tiny_shards, run, mortal_tracker(tmp_path / "died", tmp_path / "epochs"))
    assert (tmp_path / "died").exists()
    # each epoch was reported once: the second one's first try did not come to its end
    assert (tmp_path / "epochs").read_text().split() == ["1", "2", "3"]
    assert "continuing after epoch 1" in run.journal.read_text()
    tensors, state = final_tensors(run.checkpoints)
    assert_bit_equal(straight[2][0], tensors)
    assert numbers(state) == numbers(straight[2][1])


# What else a run may carry from step to step: class means and variances of the whole training set,
# signatures with an optimizer of their own, a learned boundary, batches that the model composes.
STATEFUL = ("rhs_npair_epoch", "rhs_npair_proxy", "iaa_multi_similarity", "margin", "schem")


@pytest.mark.parametrize("method", STATEFUL)
def test_everything_a_method_keeps_is_resumed(gloo_pool, tiny_shards, tmp_path, method):
    config = OmegaConf.to_container(small_params(f"method={method}"))
    finals = {}
    for name, world_size, stop in (
        ("straight", 2, {}),
        ("stopped", 2, {"at_step": STEPS + 3}),
        ("alone", 1, {}),
    ):
        job = (config, tiny_shards, tmp_path / name)
        if stop:
            gloo_pool.run(train_until, world_size, *job, *arguments(**stop))
        gloo_pool.run(train_until, world_size, *job)
        finals[name] = final_tensors(tmp_path / name)
    assert_bit_equal(finals["straight"][0], finals["stopped"][0])
    assert numbers(finals["straight"][1]) == numbers(finals["stopped"][1])
    # and one process alone has drawn the same curve
    pairs = zip(numbers(finals["alone"][1]), numbers(finals["straight"][1]), strict=True)
    for one, two in pairs:
        assert two == pytest.approx(one, rel=1e-4, abs=1e-5)
