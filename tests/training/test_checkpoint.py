"""Checkpoints: exact, whole or not at all, and never the only copy of what came before."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest
import torch
from tiny import ROOT, method_config

from rhs.build import build
from rhs.training import checkpoint
from rhs.training.checkpoint import STATE, TENSORS, load_latest, pack, save, unpack
from rhs.training.loop import training_step


def trained(steps: int):
    """A model, an objective with memories and an optimizer after some steps."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3).to(memory_format=torch.channels_last),
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(8, 8),
    )  # fmt: skip
    objective = build(method_config("rhs_npair"))
    objective.prepare(6, 8)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    go_on(model, objective, optimizer, range(steps))
    return model, objective, optimizer


def go_on(model, objective, optimizer, steps) -> None:
    for step in steps:
        random = torch.Generator().manual_seed(step)
        images = torch.randn(8, 3, 6, 6, generator=random)
        labels = (torch.arange(4).repeat_interleave(2) + step) % 6
        training_step(model, objective, optimizer, images, labels, 0.5)
        optimizer.step()


def assert_equal(one: dict, other: dict) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert value.dtype == other[name].dtype, name
        assert torch.equal(value, other[name]), name


def test_everything_comes_back_exactly(tmp_path):
    parts = trained(3)
    tensors = pack(*parts)
    assert {name.split(".")[0] for name in tensors} == {"model", "objective", "optimizer"}
    assert "objective.centers.average_CD" in tensors
    state = {"epochs_done": 1, "history": [{"loss": 0.1 + 0.2, "epoch": 1}]}
    save(tmp_path, 3, tensors, state)

    fresh = trained(0)
    loaded, loaded_state = load_latest(tmp_path)
    assert loaded_state == state
    unpack(loaded, *fresh)
    assert_equal(pack(*fresh), tensors)
    go_on(*parts, range(3, 6))
    go_on(*fresh, range(3, 6))
    assert_equal(pack(*fresh), pack(*parts))


def test_tensors_that_share_memory_or_lie_otherwise(tmp_path):
    shared = torch.arange(6.0)
    tensors = {"a": shared, "b": shared, "c": shared.view(2, 3).T, "d": shared[::2],
               "e": torch.tensor(5), "f": torch.zeros(0, 3)}  # fmt: skip
    save(tmp_path, 1, tensors, {})
    assert_equal(load_latest(tmp_path)[0], tensors)


def test_optimizer_settings_stay_those_of_the_program(tmp_path):
    model, objective, optimizer = trained(1)
    save(tmp_path, 1, pack(model, objective, optimizer), {})
    other = torch.optim.AdamW(model.parameters(), lr=0.5, weight_decay=0.3)
    unpack(load_latest(tmp_path)[0], model, objective, other)
    assert other.param_groups[0]["lr"] == 0.5
    assert other.param_groups[0]["weight_decay"] == 0.3


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    save(tmp_path, 1, pack(*trained(1)), {})
    tensors, _ = load_latest(tmp_path)
    del tensors["model.3.bias"]
    with pytest.raises(RuntimeError, match=r"3\.bias"):
        unpack(tensors, *trained(0))


def save_numbers(folder, *steps: int) -> None:
    for step in steps:
        save(folder, step, {"x": torch.full((1000,), float(step))}, {"epochs_done": step})


def test_the_newest_two_are_kept(tmp_path):
    save_numbers(tmp_path, 1, 2, 10, 200, 1000)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000200", "000001000"]
    assert load_latest(tmp_path)[1] == {"epochs_done": 1000}


def test_nothing_yet(tmp_path):
    assert load_latest(tmp_path) is None
    assert load_latest(tmp_path / "missing") is None


def truncate(file) -> None:
    os.truncate(file, file.stat().st_size // 2)


DAMAGE = {
    "tensors truncated": lambda path: truncate(path / TENSORS),
    "tensors empty": lambda path: os.truncate(path / TENSORS, 0),
    "tensors missing": lambda path: (path / TENSORS).unlink(),
    "state truncated": lambda path: truncate(path / STATE),
    "state empty": lambda path: os.truncate(path / STATE, 0),
    "state missing": lambda path: (path / STATE).unlink(),
    "state is no text": lambda path: (path / STATE).write_bytes(b"\xff\xfe{}"),
    "folder empty": lambda path: [file.unlink() for file in path.iterdir()],
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_newest_falls_back_and_says_so(tmp_path, damage):
    save_numbers(tmp_path, 1, 2)
    DAMAGE[damage](tmp_path / "000000002")
    said = []
    tensors, state = load_latest(tmp_path, said.append)
    assert state == {"epochs_done": 1}
    assert (tensors["x"] == 1).all()
    assert len(said) == 1
    assert "000000002 cannot be read" in said[0]
    assert "the one before" in said[0]
    # and the damaged one can be written again
    save_numbers(tmp_path, 2)
    assert load_latest(tmp_path, pytest.fail)[1] == {"epochs_done": 2}


def test_all_damaged_is_none(tmp_path):
    save_numbers(tmp_path, 1, 2)
    for path in tmp_path.iterdir():
        truncate(path / TENSORS)
    said = []
    assert load_latest(tmp_path, said.append) is None
    assert len(said) == 2


@pytest.mark.parametrize("moment", ["save_tensors", "flush", "rename"])
def test_killed_while_writing_leaves_the_one_before(tmp_path, moment):
    save_numbers(tmp_path, 1)
    program = f"""
        import os, signal, torch, rhs.atomic, rhs.training.checkpoint as checkpoint
        from pathlib import Path
        def die(*args, **more):
            os.kill(os.getpid(), signal.SIGKILL)
        if {moment!r} == "save_tensors":
            checkpoint.json.dumps = die
        elif {moment!r} == "flush":
            rhs.atomic.os.fsync = die
        else:
            Path.rename = die
        checkpoint.save(Path({str(tmp_path)!r}), 2, {{"x": torch.zeros(10)}}, {{"epochs_done": 2}})
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL
    assert load_latest(tmp_path, pytest.fail)[1] == {"epochs_done": 1}
    save_numbers(tmp_path, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000001", "000000002"]
    assert load_latest(tmp_path, pytest.fail)[1] == {"epochs_done": 2}


def test_an_error_while_writing_leaves_no_trace(tmp_path):
    save_numbers(tmp_path, 1)
    with pytest.raises(TypeError):
        save(tmp_path, 2, {"x": torch.zeros(1)}, {"not for JSON": object()})
    assert [path.name for path in tmp_path.iterdir()] == ["000000001"]


def test_a_full_disk_is_an_os_error(tmp_path, monkeypatch):
    """So that a stage can say it in a sentence; safetensors has an error of its own."""
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    real = checkpoint.whole_folder

    def full_disk(final):
        class Folder:
            def __enter__(self):
                self.inner = real(final)
                folder = self.inner.__enter__()
                (folder / TENSORS).symlink_to("/dev/full")
                return folder

            def __exit__(self, *error):
                return self.inner.__exit__(*error)

        return Folder()

    monkeypatch.setattr(checkpoint, "whole_folder", full_disk)
    with pytest.raises(OSError, match="No space left"):
        save(tmp_path, 2, {"x": torch.zeros(10_000)}, {})
    assert list(tmp_path.iterdir()) == []
