"""Checkpoints while training goes on: when they are due, who writes them, and what may go wrong."""

import errno
import threading
import time
from concurrent.futures import wait
from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest
import torch

from rhs.config.schema import read_group
from rhs.config.settings import CheckpointConfig
from rhs.errors import UserError
from rhs.storage.store import FolderStore
from rhs.training.checkpoint import load, load_latest, steps
from rhs.training.checkpointer import (
    Checkpointer,
    TrainingStopped,
    best_step,
    resume,
)
from rhs.training.hooks import RunHooks
from rhs.training.loop import Progress

PLAN = SimpleNamespace(steps=10, adaptive=False)
NEVER = CheckpointConfig(every_seconds=None, every_steps=None, keep=2)


@pytest.fixture
def parts():
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    return model, torch.nn.Module(), optimizer


@pytest.fixture
def keeper_of(tmp_path, parts):
    """Makes keepers of the same folder; `said` has their lines."""

    def make(often: CheckpointConfig = NEVER, owner=None, **more) -> Checkpointer:
        hooks = RunHooks(say=make.said.append, **more)
        return Checkpointer(FolderStore(tmp_path), parts, PLAN, often, hooks, owner=owner)

    make.said = []
    return make


def at(step: int, history: list[dict] | None = None) -> Progress:
    return Progress(epochs_done=step // 10, step=step % 10, history=history or [])


def test_every_so_many_steps(keeper_of):
    keeper = keeper_of(replace(NEVER, every_steps=4))
    assert [step for step in range(1, 13) if keeper.due(step)] == [4, 8, 12]
    assert not any(keeper_of(NEVER).due(step) for step in range(1, 13))


def test_every_so_many_seconds(keeper_of, monkeypatch):
    keeper, now = keeper_of(replace(NEVER, every_seconds=60)), [time.monotonic()]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    assert not keeper.due(1)
    now[0] += 61
    assert keeper.due(2)
    with keeper:
        keeper.save(at(2))
    assert not keeper.due(3)
    now[0] += 59
    assert not keeper.due(4)


class SlowFolder(FolderStore):
    """Writes once it is let."""

    go = threading.Event()

    def write(self, name, data):
        assert self.go.wait(10)
        super().write(name, data)


def test_training_goes_on_while_it_is_written_and_changes_nothing_in_it(tmp_path, parts):
    said: list[str] = []
    hooks = RunHooks(say=said.append)
    keeper = Checkpointer(
        SlowFolder(tmp_path), parts, PLAN, replace(NEVER, every_seconds=1e-9), hooks
    )
    progress = at(7)
    before = parts[0].weight.detach().clone()
    keeper.save(progress)
    with torch.no_grad():
        parts[0].weight.zero_()
    progress.step = 9
    assert not keeper.due(8)  # one at a time; a slow disk is not waited for
    assert list(tmp_path.iterdir()) == []
    SlowFolder.go.set()
    with keeper:
        pass
    tensors, state = load(FolderStore(tmp_path), 7)
    assert torch.equal(tensors["model.weight"], before)
    assert state["step"] == 7
    assert keeper.due(9)


def test_asked_to_end(keeper_of, tmp_path):
    asked: list[int] = []
    keeper = keeper_of(NEVER, stopping=lambda: bool(asked))
    assert not keeper.due(12)
    asked.append(15)
    assert keeper.due(13)
    with pytest.raises(TrainingStopped) as stopped:
        keeper.save(at(13))
    assert stopped.value.step == 13
    assert steps(FolderStore(tmp_path)) == [13]  # written, not only begun


RECALLS, AREAS = (0.2, 0.9, 0.9, 0.5), (0.1, 0.2, 0.3, 0.3)


def test_the_last_and_the_best_stay(keeper_of, tmp_path):
    history = []
    with keeper_of(replace(NEVER, keep=1)) as keeper:
        for epoch, (recall, area) in enumerate(zip(RECALLS, AREAS, strict=True), 1):
            row = {"epoch": epoch, "step": 10 * epoch, "val_recall@1": recall, "val_map@r": area}
            history.append(row)
            keeper.save(at(10 * epoch, history))
        keeper.save(at(44, history))
    assert steps(FolderStore(tmp_path)) == [20, 30, 44]  # of two that are as good, the first
    assert best_step([{"step": 10}], "val_recall@1") is None


def test_a_write_that_fails_is_tried_again_and_the_third_in_a_row_ends_the_run(
    keeper_of, tmp_path, monkeypatch
):
    real, full = FolderStore.write, [True]

    def write(self, name, data):
        if full[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(self, name, data)

    monkeypatch.setattr(FolderStore, "write", write)
    keeper = keeper_of()

    def save(*steps: int) -> None:
        for step in steps:
            keeper.save(at(step))
            wait([keeper.writing])

    save(1, 2)
    full[0] = False
    save(3)  # hears of step 2's
    assert len(keeper_of.said) == 2
    assert "No space left" in keeper_of.said[0]
    assert "tries again" in keeper_of.said[0]
    save(4)
    full[0] = True
    save(5, 6, 7)
    with pytest.raises(UserError, match=rf"cannot be written to {tmp_path} .*No space left"):
        keeper.save(at(8))
    assert load_latest(FolderStore(tmp_path))[1]["step"] == 4
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_the_very_last_must_be_written(keeper_of, monkeypatch):
    def write(self, name, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(FolderStore, "write", write)
    keeper = keeper_of()
    keeper.save(at(30))
    with pytest.raises(UserError, match="run the same command"), keeper:
        pass
    # after an error of its own, training's is the one to be told
    keeper = keeper_of()
    keeper.save(at(30))
    with pytest.raises(ZeroDivisionError), keeper:
        raise ZeroDivisionError
    assert "could not be written" in keeper_of.said[-1]


def test_who_has_lost_the_run_writes_nothing(keeper_of, tmp_path):
    (tmp_path / "owner").write_text("me")
    with keeper_of(NEVER, owner="me") as keeper:
        keeper.save(at(1))
    (tmp_path / "owner").write_text("another")
    keeper.save(at(2))
    with pytest.raises(UserError, match="Another process has taken over"), keeper:
        pass
    assert steps(FolderStore(tmp_path)) == [1]


def test_a_rank_that_was_cut_off_writes_nothing_beside_its_successor(keeper_of, tmp_path):
    (tmp_path / "owner").write_text("me")
    lost = keeper_of(NEVER, owner="me")
    with keeper_of(NEVER, owner="me") as successor:
        successor.save(at(2))
    lost.save(at(3))
    with pytest.raises(UserError, match="Another process has taken over"), lost:
        pass
    assert steps(FolderStore(tmp_path)) == [2]


def test_leftovers_of_a_killed_writer_are_swept(keeper_of, tmp_path):
    (tmp_path / ".000000003.json.0a1b2c3d.tmp").touch()
    (tmp_path / ".mine.tmp").touch()
    keeper_of()
    assert [path.name for path in tmp_path.iterdir()] == [".mine.tmp"]


def test_resume(keeper_of, tmp_path, parts):
    said: list[str] = []
    cpu = torch.device("cpu")
    assert resume(FolderStore(tmp_path), parts, PLAN, cpu, said.append) == Progress()
    progress = Progress(2, 4, {"loss": [0.1 + 0.2, 4]}, [{"epoch": 1}, {"epoch": 2}])
    with keeper_of() as keeper:
        keeper.save(progress)
    weight = parts[0].weight.detach().clone()
    with torch.no_grad():
        parts[0].weight.zero_()
    assert resume(FolderStore(tmp_path), parts, PLAN, cpu, said.append) == progress
    assert torch.equal(parts[0].weight, weight)
    assert said == ["continuing after step 4/10 of epoch 3"]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"every_seconds": 0}, r"every_seconds is 0; it must be a number above 0"),
        ({"every_seconds": "often"}, r"every_seconds is 'often'"),
        ({"every_steps": 2.5}, r"every_steps is 2\.5; it must be a whole number at least 1"),
        ({"keep": 0}, r"cluster\.checkpoint\.keep is 0; it must be a whole number at least 1"),
    ],
)
def test_settings_that_cannot_work(bad, message):
    with pytest.raises(UserError, match=message):
        read_group(CheckpointConfig, "cluster.checkpoint", asdict(NEVER) | bad)
