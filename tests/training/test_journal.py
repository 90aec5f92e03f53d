"""The journal: lines that are printed and stay with the run."""

import re

from rhs.training import journal


def test_lines_have_the_time_and_stay(tmp_path, capsys):
    path = tmp_path / "run" / "log.txt"
    journal.write(path, "epoch 1")
    journal.write(path, "épreuve ± 2")
    written = path.read_text(encoding="utf-8")
    lines = [re.sub(r"^\d\d:\d\d:\d\d  ", "", line) for line in written.splitlines()]
    assert lines == ["epoch 1", "épreuve ± 2"]
    assert capsys.readouterr().out == written
