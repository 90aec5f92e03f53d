"""The file of a run's numbers: what is new, what is whole, and what a killed writer leaves."""

import errno
import json
import os
import time
from pathlib import Path

import pytest

from rhs.tracking.spool import Sent, Spool


def lines(spool: Spool) -> list[dict]:
    return [json.loads(line) for line in spool.path.read_text().splitlines()]


def test_an_entry_says_when_it_was_first_recorded(tmp_path, monkeypatch):
    monkeypatch.setattr("rhs.tracking.spool.time.time", lambda: 12.3456)
    Spool(tmp_path / "run").add("train", [(3, {"loss": 0.5})])
    monkeypatch.setattr("rhs.tracking.spool.time.time", lambda: 99.0)
    again = Spool(tmp_path / "run")
    again.add("train", [(3, {"loss": 0.5}), (4, {"loss": 0.25})])
    assert lines(again) == [
        {"group": "train", "step": 3, "ms": 12345, "values": {"loss": 0.5}},
        {"group": "train", "step": 4, "ms": 99000, "values": {"loss": 0.25}},
    ]


def test_groups_count_for_themselves(tmp_path):
    spool = Spool(tmp_path)
    spool.add("step", [(step, {"loss": 1.0}) for step in (1, 2, 3)])
    spool.add("train", [(2, {"loss": 1.0})])
    spool.add("step", [(step, {"loss": 2.0}) for step in (2, 3, 4)])
    assert [(e["group"], e["step"]) for e in lines(spool)] == [
        ("step", 1),
        ("step", 2),
        ("step", 3),
        ("train", 2),
        ("step", 4),
    ]


def test_a_score_is_new_where_it_differs(tmp_path, monkeypatch):
    clock = iter(range(1, 10))
    monkeypatch.setattr("rhs.tracking.spool.time.time", lambda: next(clock))
    for recall, model in ((0.5, None), (0.5, None), (0.5, "m-1"), (0.5, "m-1"), (0.25, "m-1")):
        Spool(tmp_path).add("test", [(0, {"recall@1": recall})], model, "run-1")
    kept = [(e["values"]["recall@1"], e.get("model_id"), e["ms"]) for e in lines(Spool(tmp_path))]
    # The same score of a model that is registered by now is the same number: the same time.
    assert kept == [(0.5, None, 1000), (0.5, "m-1", 1000), (0.25, "m-1", 5000)]


def test_a_half_written_line_is_cut_off(tmp_path):
    spool = Spool(tmp_path)
    spool.add("step", [(1, {"loss": 1.0}), (2, {"loss": 0.5})])
    whole = spool.path.read_bytes()
    for cut in (1, 10, len(whole.splitlines(keepends=True)[1]) - 1):
        spool.path.write_bytes(whole[:-cut])
        again = Spool(tmp_path)
        again.add("step", [(2, {"loss": 0.5})])
        assert [e["step"] for e in lines(again)] == [1, 2]


def test_a_damaged_line_is_told_and_left_out(tmp_path, capsys):
    spool = Spool(tmp_path)
    spool.add("step", [(1, {"loss": 1.0})])
    with spool.path.open("ab") as file:
        file.write(b"\0\0\0\n")
    again = Spool(tmp_path)
    again.add("step", [(2, {"loss": 1.0})])
    assert "metrics.jsonl: 1 damaged lines are left out" in capsys.readouterr().err
    assert [entry.get("step") for entry, _ in again.entries(0)] == [1, None, 2]
    assert again.waiting() == 2


def test_what_was_sent_is_remembered_for_that_spool_only(tmp_path):
    spool = Spool(tmp_path)
    spool.add("step", [(1, {"loss": 1.0}), (2, {"loss": 1.0})])
    spool.set_status("FINISHED")
    assert spool.waiting() == 2
    (_, first), *_ = spool.entries(0)
    spool.note(Sent("run-1", first, {"step": 1}))
    again = Spool(tmp_path)
    assert again.sent() == ("run-1", first, {"step": 1})
    assert again.waiting() == 1
    spool.path.unlink()
    assert Spool(tmp_path).sent() is None


def test_two_stages_at_once_note_what_they_sent(tmp_path, monkeypatch):
    first, second = Spool(tmp_path), Spool(tmp_path)
    write, ours = Path.write_text, os.getpid()
    monkeypatch.setattr("rhs.tracking.spool.os.getpid", lambda: pids[0])
    pids = [ours]

    def while_the_other_notes(path, text):
        wrote = write(path, text)
        if pids == [ours]:
            pids[0] = ours + 1  # the second stage is another process
            second.note(Sent("second", 0, {}))
        return wrote

    monkeypatch.setattr(Path, "write_text", while_the_other_notes)
    first.note(Sent("first", 0, {}))
    assert Spool(tmp_path).sent() == ("first", 0, {})
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.sent"]


def test_what_a_killed_stage_left_is_removed(tmp_path):
    for age, name in ((3600, ".metrics.sent.12.tmp"), (0, ".metrics.sent.13.tmp")):
        (tmp_path / name).write_text("{")
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    Spool(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".metrics.sent.13.tmp"]  # being written


def test_a_full_disk_leaves_whole_lines(small_disk, tmp_path):
    spool = Spool(small_disk("64k"))

    def fill() -> None:
        for step in range(10_000):
            spool.add("step", [(step, {"loss": 1.0})])

    with pytest.raises(OSError, match="No space left") as full:
        fill()
    assert full.value.errno == errno.ENOSPC
    assert full.value.filename == str(spool.path)
    kept = [entry["step"] for entry in lines(spool)]
    assert kept == list(range(len(kept)))
    assert len(kept) > 100
