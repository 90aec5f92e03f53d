"""A lock that another process holds is waited for, and its file is named."""

import subprocess
import sys

from rhs.storage.locks import locked

HOLDS = """
import sys, time
from filelock import FileLock
with FileLock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(0.5)
"""


def test_who_waits_is_told_of_the_file(tmp_path, capsys):
    path = tmp_path / ".it.lock"
    locked(path, "another process is making it").release()
    assert capsys.readouterr().out == ""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, path], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        locked(path, "another process is making it").release()
    said = f"another process is making it; waiting for it (its lock: {path})\n"
    assert capsys.readouterr().out == said
