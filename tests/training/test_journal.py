"""The journal: lines written by one process, shown by another."""

import re
import threading

from rhs.training import journal


def test_lines_have_the_time_and_stay(tmp_path):
    path = tmp_path / "run" / "log.txt"
    journal.write(path, "epoch 1")
    journal.write(path, "épreuve ± 2")
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [re.sub(r"^\d\d:\d\d:\d\d  ", "", line) for line in lines] == ["epoch 1", "épreuve ± 2"]


def test_only_lines_added_meanwhile_are_shown(tmp_path, capsys):
    path = tmp_path / "log.txt"
    journal.write(path, "of the try before")
    with journal.shown(path, every=0.01):
        journal.write(path, "one")
        journal.write(path, "two")
    journal.write(path, "too late")
    shown = capsys.readouterr().out
    assert [line.split("  ")[1] for line in shown.splitlines()] == ["one", "two"]


def test_a_line_is_shown_before_the_block_ends(tmp_path, monkeypatch):
    path, printed = tmp_path / "log.txt", threading.Event()
    monkeypatch.setattr(
        "builtins.print", lambda text, **_: printed.set() if "now" in text else None
    )
    with journal.shown(path, every=0.01):
        journal.write(path, "now")
        assert printed.wait(5)


def test_nothing_is_written(tmp_path, capsys):
    with journal.shown(tmp_path / "log.txt", every=0.01):
        pass
    assert capsys.readouterr().out == ""


def test_what_was_written_before_a_failure_is_shown(tmp_path, capsys):
    path = tmp_path / "log.txt"
    try:
        with journal.shown(path, every=60):
            journal.write(path, "the reason")
            raise RuntimeError
    except RuntimeError:
        pass
    assert "the reason" in capsys.readouterr().out
