"""Checkpoints: exact, whole or not at all, and never the only copy of what came before."""

import os

import pytest
import torch
from tiny_project import method_config

from rhs.config.instantiate import build
from rhs.storage.store import FolderStore
from rhs.training.checkpoint import (
    cpu_copies,
    load_latest,
    load_state_tensors,
    prune,
    save,
    state_tensors,
    steps,
)
from rhs.training.loop import training_step


def trained(steps: int):
    """A model, an objective with memories and an optimizer after some steps."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3).to(memory_format=torch.channels_last),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(8, 8),
    )
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
    tensors = state_tensors(*parts)
    assert {name.split(".")[0] for name in tensors} == {"model", "objective", "optimizer"}
    assert "objective.centers.average_CD" in tensors
    state = {"epochs_done": 1, "history": [{"loss": 0.1 + 0.2, "epoch": 1}]}
    save(FolderStore(tmp_path), 3, cpu_copies(tensors), state)

    fresh = trained(0)
    loaded, loaded_state = load_latest(FolderStore(tmp_path))
    assert loaded_state == state
    load_state_tensors(loaded, *fresh)
    assert_equal(state_tensors(*fresh), tensors)
    go_on(*parts, range(3, 6))
    go_on(*fresh, range(3, 6))
    assert_equal(state_tensors(*fresh), state_tensors(*parts))


def test_tensors_that_share_memory_or_lie_otherwise(tmp_path):
    shared = torch.arange(6.0)
    tensors = {
        "a": shared,
        "b": shared,
        "c": shared.view(2, 3).T,
        "d": shared[::2],
        "e": torch.tensor(5),
        "f": torch.zeros(0, 3),
    }
    save(FolderStore(tmp_path), 1, cpu_copies(tensors), {})
    assert_equal(load_latest(FolderStore(tmp_path))[0], tensors)


def test_optimizer_settings_stay_those_of_the_program(tmp_path):
    model, objective, optimizer = trained(1)
    save(FolderStore(tmp_path), 1, cpu_copies(state_tensors(model, objective, optimizer)), {})
    other = torch.optim.AdamW(model.parameters(), lr=0.5, weight_decay=0.3)
    load_state_tensors(load_latest(FolderStore(tmp_path))[0], model, objective, other)
    assert other.param_groups[0]["lr"] == 0.5
    assert other.param_groups[0]["weight_decay"] == 0.3


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    save(FolderStore(tmp_path), 1, cpu_copies(state_tensors(*trained(1))), {})
    tensors, _ = load_latest(FolderStore(tmp_path))
    del tensors["model.3.bias"]
    with pytest.raises(RuntimeError, match=r"3\.bias"):
        load_state_tensors(tensors, *trained(0))


def save_numbers(folder, *steps: int) -> None:
    for step in steps:
        x = {"x": torch.full((1000,), float(step))}
        save(FolderStore(folder), step, x, {"epochs_done": step})


def test_the_newest_and_the_best_are_kept(tmp_path):
    save_numbers(tmp_path, 1, 2, 10, 200, 1000)
    prune(FolderStore(tmp_path), 1000, keep=2, best=[10, None])
    assert steps(FolderStore(tmp_path)) == [10, 200, 1000]
    assert len(list(tmp_path.iterdir())) == 6
    assert load_latest(FolderStore(tmp_path))[1] == {"epochs_done": 1000}
    prune(FolderStore(tmp_path), 1000, keep=1, best=[1000, 200])
    assert steps(FolderStore(tmp_path)) == [200, 1000]


def test_what_is_no_checkpoint_goes(tmp_path):
    save_numbers(tmp_path, 2, 4)
    for name in ("000000003.0badc0de.safetensors", "000000005.0badc0de.safetensors", "owner"):
        (tmp_path / name).touch()
    prune(FolderStore(tmp_path), 4, keep=2)
    left = {path.name[:9] for path in tmp_path.iterdir()}
    assert left == {"000000002", "000000004", "owner"}


@pytest.mark.parametrize("keep", [1, 2])
def test_damaged_newer_ones_push_no_good_ones_out(tmp_path, keep):
    save_numbers(tmp_path, 4, 6, 8)
    (tmp_path / "000000008.json").write_text('{"tensors": ')
    save_numbers(tmp_path, 7)  # the run went on from 6
    prune(FolderStore(tmp_path), 7, keep=keep)
    assert steps(FolderStore(tmp_path)) == [6, 7][-keep:]


def test_a_damaged_best_does_not_disturb(tmp_path):
    save_numbers(tmp_path, 2, 4, 6)
    (tmp_path / "000000002.json").write_text("")
    prune(FolderStore(tmp_path), 6, keep=1, best=[2])
    assert steps(FolderStore(tmp_path)) == [6]
    assert len(list(tmp_path.iterdir())) == 2


def test_a_step_written_again_replaces_the_first(tmp_path):
    save_numbers(tmp_path, 3)
    save(FolderStore(tmp_path), 3, {"x": torch.zeros(2)}, {"epochs_done": 9})
    prune(FolderStore(tmp_path), 3, keep=2)
    assert len(list(tmp_path.iterdir())) == 2
    assert load_latest(FolderStore(tmp_path))[1] == {"epochs_done": 9}


def test_nothing_yet(tmp_path):
    assert load_latest(FolderStore(tmp_path)) is None
    assert load_latest(FolderStore(tmp_path / "missing")) is None


def truncate(file) -> None:
    os.truncate(file, file.stat().st_size // 2)


def flip_a_bit(file) -> None:
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


DAMAGE = {
    "tensors truncated": lambda tensors, state: truncate(tensors),
    "tensors empty": lambda tensors, state: os.truncate(tensors, 0),
    "tensors missing": lambda tensors, state: tensors.unlink(),
    "one bit of a tensor": lambda tensors, state: flip_a_bit(tensors),
    "state truncated": lambda tensors, state: truncate(state),
    "state empty": lambda tensors, state: os.truncate(state, 0),
    "state is no text": lambda tensors, state: state.write_bytes(b"\xff\xfe{}"),
    "state of something else": lambda tensors, state: state.write_text("{}"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_newest_falls_back_and_says_so(tmp_path, damage):
    save_numbers(tmp_path, 1, 2)
    state, tensors = sorted(tmp_path.glob("000000002.*"), key=lambda path: path.suffix)
    DAMAGE[damage](tensors, state)
    said = []
    tensors, state = load_latest(FolderStore(tmp_path), said.append)
    assert state == {"epochs_done": 1}
    assert (tensors["x"] == 1).all()
    assert len(said) == 1
    assert said[0].startswith("checkpoint 2 in ")
    assert "the one before" in said[0]
    # and the damaged one can be written again
    save_numbers(tmp_path, 2)
    prune(FolderStore(tmp_path), 2, keep=2)
    assert load_latest(FolderStore(tmp_path), pytest.fail)[1] == {"epochs_done": 2}


def test_all_damaged_is_none(tmp_path):
    save_numbers(tmp_path, 1, 2)
    for path in tmp_path.glob("*.safetensors"):
        truncate(path)
    said = []
    assert load_latest(FolderStore(tmp_path), said.append) is None
    assert len(said) == 3
    assert said[2].endswith("starting from the beginning")


def test_a_store_that_is_away_is_no_damage(tmp_path, monkeypatch):
    """Else a run would start anew, or from long ago, because a server was slow."""
    save_numbers(tmp_path, 1, 2)

    def away(self, name):
        raise TimeoutError("no answer")

    monkeypatch.setattr(FolderStore, "read", away)
    with pytest.raises(OSError, match="no answer"):
        load_latest(FolderStore(tmp_path), pytest.fail)


def test_an_error_while_writing_leaves_no_trace(tmp_path):
    save_numbers(tmp_path, 1)
    with pytest.raises(TypeError):
        save(FolderStore(tmp_path), 2, {"x": torch.zeros(1)}, {"not for JSON": object()})
    assert {path.name[:9] for path in tmp_path.iterdir()} == {"000000001"}
