"""Killed by real signals, at any moment, a run ends like one that was not.

Here on bare processes; through Ray Train in test_killed_ray.py.
"""

import shutil

import pytest
from injector import Injury
from rank_jobs import final_tensors, train_until
from resume_checks import STEPS, assert_bit_equal, params, straight_runs

from rhs.errors import UserError
from rhs.storage.store import FolderStore
from rhs.training.checkpoint import steps

MOMENTS = {
    "before the first step": ("step", 0),
    "mid-way in an epoch": ("step", STEPS + 3),
    "on the edge of an epoch": ("edge", 1),
    "half of a checkpoint written": ("tensors", 3),
    "a checkpoint's state not yet written": ("state", 3),
}
EVERY = 2  # steps between checkpoints


@pytest.fixture(scope="module")
def straight(gloo_pool, tiny_shards, tmp_path_factory):
    return straight_runs(gloo_pool, tiny_shards, tmp_path_factory, 2)[2]


@pytest.fixture(scope="module")
def straight_alone(tiny_shards, tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    assert train_until(params(), tiny_shards, folder)[0]
    return final_tensors(folder)


def ends_like(straight, gloo_pool, job) -> list[str]:
    """The same command again: asserts that it ends bit-equal, returns what it said."""
    again = gloo_pool.run(train_until, 2, *job)
    tensors, state = final_tensors(job[2])
    assert_bit_equal(straight[0], tensors)
    assert state == straight[1]
    assert not [file.name for file in job[2].iterdir() if file.name.endswith(".tmp")]
    return again[0][1]


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_worker_is_killed(gloo_pool, tiny_shards, straight, tmp_path, moment, rank):
    what, number = MOMENTS[moment]
    if rank == 1 and what != "step":
        pytest.skip("checkpoints are the first worker's")
    job = (params(every_steps=EVERY), tiny_shards, tmp_path)
    answers = gloo_pool.attempt(train_until, 2, *job, Injury(what, number, "kill", (rank,)))
    assert answers[rank] == (False, "ended with status -9")
    assert not answers[1 - rank][0]  # the other one has noticed
    ends_like(straight, gloo_pool, job)


@pytest.mark.parametrize("moment", ["before the first step", "mid-way in an epoch"])
def test_all_are_killed_at_once(gloo_pool, tiny_shards, straight, tmp_path, moment):
    """As when the process that started them is, or the machine."""
    job = (params(every_steps=EVERY), tiny_shards, tmp_path)
    answers = gloo_pool.attempt(train_until, 2, *job, Injury(*MOMENTS[moment], "kill"))
    assert answers == [(False, "ended with status -9")] * 2
    ends_like(straight, gloo_pool, job)


@pytest.mark.parametrize("moment", MOMENTS)
def test_asked_to_end_it_saves_first(gloo_pool, tiny_shards, straight, tmp_path, moment):
    what, number = MOMENTS[moment]
    job = (params(every_steps=EVERY), tiny_shards, tmp_path)
    (_, (finished, _)), _ = gloo_pool.attempt(
        train_until, 2, *job, Injury(what, number, "term", (0,))
    )
    assert not finished
    continued = [line for line in ends_like(straight, gloo_pool, job) if "continuing" in line]
    # Saved after the very step that it was in, although no checkpoint was due there.
    assert continued == [f"continuing after {SAVED[moment]}"]


SAVED = {
    "before the first step": "step 1/5 of epoch 1",
    "mid-way in an epoch": "step 4/5 of epoch 2",
    "on the edge of an epoch": "epoch 1",
    "half of a checkpoint written": "step 1/5 of epoch 2",
    "a checkpoint's state not yet written": "step 1/5 of epoch 2",
}


def test_a_full_disk_ends_it_in_a_sentence_and_space_continues_it(
    tiny_shards, straight_alone, small_disk
):
    disk = small_disk("3m")
    job = (params(every_steps=1), tiny_shards, disk / "run")
    done, _ = train_until(*job, Injury("step", 4))
    assert not done
    kept = steps(FolderStore(disk / "run"))
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(shutil.disk_usage(disk).free))
    with pytest.raises(UserError, match=r"cannot be written to .*No space left.*same command"):
        train_until(*job)
    assert steps(FolderStore(disk / "run")) == kept
    assert not list((disk / "run").glob(".*"))
    ballast.unlink()
    done, lines = train_until(*job)
    assert done
    assert "continuing after step 4/5 of epoch 1" in lines
    tensors, state = final_tensors(disk / "run")
    assert_bit_equal(straight_alone[0], tensors)
    assert state == straight_alone[1]
