"""The journal: lines that are printed and stay with the run."""

import errno
import re
from pathlib import Path

import pytest

from rhs.training import run_log


def test_lines_have_the_time_and_stay(tmp_path, capsys):
    path = tmp_path / "run" / "log.txt"
    run_log.write(path, "epoch 1")
    run_log.write(path, "épreuve ± 2")
    written = path.read_text(encoding="utf-8")
    lines = [re.sub(r"^\d\d:\d\d:\d\d  ", "", line) for line in written.splitlines()]
    assert lines == ["epoch 1", "épreuve ± 2"]
    assert capsys.readouterr().out == written


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_once_and_ends_nothing(tmp_path, monkeypatch, capsys, code):
    path = tmp_path / "log.txt"

    def full(*_, **__):
        raise OSError(code, "no room")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        run_log.write(path, "epoch 1")
        run_log.write(path, "epoch 2")
    run_log.write(path, "epoch 3")  # there is room again
    told = capsys.readouterr()
    assert re.findall(r"epoch \d", told.out) == ["epoch 1", "epoch 2", "epoch 3"]
    assert told.err.count("No space left") == told.err.count(str(path)) == 1
    assert path.read_text().endswith("epoch 3\n")


def test_another_error_of_the_file_is_raised_after_the_line_is_printed(tmp_path, capsys):
    path = tmp_path / "log.txt"
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        run_log.write(path, "epoch 1")
    assert capsys.readouterr().out.endswith("epoch 1\n")
