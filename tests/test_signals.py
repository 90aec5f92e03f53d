"""A signal at any moment is one line and 128 + its number, and the same command continues."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from folders import make_images
from tiny_project import ROOT

from rhs.errors import Interrupted
from rhs.signals import interruptible, preserved_handlers

LINE = "interrupted; the same command starts again"
STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143}
SMALL = ("dataset=folder", "tracking=none", "dataset.source=photos", "dataset.name=photos")


class Command:
    """A process whose Python has begun to run our code: what it does before is not ours."""

    def __init__(self, *words: str, cwd: Path):
        self.process = subprocess.Popen(
            [sys.executable, *words],
            cwd=cwd,
            text=True,
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(ROOT), "RAY_ADDRESS": ""},
        )
        status = Path("/proc", str(self.process.pid), "status")
        bit = 1 << (signal.SIGTERM - 1)
        while not int(re.search(r"SigCgt:\t(\w+)", status.read_text())[1], 16) & bit:
            assert self.process.poll() is None
            time.sleep(0.001)

    def ends(self) -> tuple[int, str]:
        """Its status, and what it said on stderr."""
        _, said = self.process.communicate(timeout=120)
        return self.process.returncode, said

    def interrupted(self, signum: int, after: float, times: int = 1) -> tuple[int, str]:
        time.sleep(after)
        for _ in range(times):
            self.process.send_signal(signum)
            time.sleep(0.02)
        return self.ends()


@pytest.fixture
def photos(project) -> Path:
    make_images(project / "photos", [4, 4, 4, 4])
    return project


@pytest.mark.parametrize(
    ("words", "signum", "after", "times", "line"),
    [
        (("-m", "pipelines.train", *SMALL), signal.SIGINT, 0.0, 1, LINE),
        (("-m", "pipelines.tune"), signal.SIGTERM, 0.3, 2, LINE),
        (("-m", "rhs.cli", "export", "--out=a.onnx"), signal.SIGTERM, 0.0, 1, "interrupted"),
    ],
)
def test_while_it_is_being_imported(photos, words, signum, after, times, line):
    ended = Command(*words, cwd=photos).interrupted(signum, after, times)
    assert ended == (STATUS[signum], f"{line}\n")
    assert {path.name for path in photos.iterdir()} == {"conf", "photos"}


def test_what_unwinds_is_waited_for_and_a_second_signal_ends_it(photos):
    program = """
import sys, time
from rhs.signals import end_at_once
end_at_once()
from rhs.stage import stage
def main(params):
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        print("put away", flush=True)
        time.sleep(60 if params.seed else 0)
stage(main)
"""
    for seed, times in ((0, 1), (1, 2)):
        command = Command("-c", program, f"seed={seed}", cwd=photos)
        assert command.process.stdout.readline() == "ready\n"
        command.process.send_signal(signal.SIGTERM)
        assert command.process.stdout.readline() == "put away\n"
        assert command.interrupted(signal.SIGTERM, 0.1, times - 1) == (143, f"{LINE}\n")


def test_the_second_signal_while_the_interpreter_ends(photos):
    program = """
import atexit, sys, time
from rhs.signals import end_at_once
end_at_once()
from rhs.stage import stage
def farewell():
    print("leaving", flush=True)
    print("a library complains", file=sys.stderr, flush=True)
    time.sleep(60)
atexit.register(farewell)
def main(params):
    print("ready", flush=True)
    time.sleep(60)
stage(main)
"""
    command = Command("-c", program, "seed=0", cwd=photos)
    assert command.process.stdout.readline() == "ready\n"
    command.process.send_signal(signal.SIGINT)
    assert command.process.stdout.readline() == "leaving\n"
    assert command.interrupted(signal.SIGTERM, 0.0) == (130, f"{LINE}\n")


def test_when_all_is_done_it_changes_nothing(tmp_path):
    program = """
import time
from rhs.signals import end_at_once
end_at_once()
class Late:
    def __del__(self, sleep=time.sleep, print=print):
        print("taken apart", flush=True)
        sleep(0.5)
late = Late()
time.sleep(0.3)
"""
    command = Command("-c", program, cwd=tmp_path)
    assert command.process.stdout.readline() == "taken apart\n"
    assert command.interrupted(signal.SIGINT, 0.1, 2) == (0, "")


def test_in_a_destructor_it_is_not_lost(photos):
    program = """
import os, signal, time
from rhs.signals import end_at_once
end_at_once()
from rhs.stage import stage
class Deaf:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.2)
def main(params):
    Deaf()
    time.sleep(60)
stage(main)
"""
    assert Command("-c", program, "seed=0", cwd=photos).ends() == (143, f"{LINE}\n")


def test_handlers_are_put_back():
    before = [signal.getsignal(which) for which in STATUS]

    def asked() -> None:
        with interruptible():
            with preserved_handlers():
                signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as Ray sets its own
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)

    with pytest.raises(Interrupted) as caught:
        asked()
    assert caught.value.signum == signal.SIGTERM
    assert [signal.getsignal(which) for which in STATUS] == before


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        # What has been read before is remembered beside the outputs, once a file is not just made.
        if path.is_file() and "__pycache__" not in path.parts and ".seen" not in path.suffixes
    }


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["inputs", "fetch", "preprocess", "data_report"])
@pytest.mark.parametrize("signum", STATUS)
def test_at_random_moments(photos, stage, signum):
    """The stages that take seconds; training and what follows it: test_killed_ray.py."""
    stages = ["inputs", "fetch", "preprocess", "data_report"]
    for earlier in stages[: stages.index(stage)]:
        status, said = Command("-m", f"pipelines.{earlier}", *SMALL, cwd=photos).ends()
        assert status == 0, said
    draw, start = random.Random(f"{stage} {signum}"), time.monotonic()
    words = ("-m", f"pipelines.{stage}", *SMALL)
    assert Command(*words, cwd=photos).ends()[0] == 0
    takes, whole = time.monotonic() - start, contents(photos / "data")
    for _ in range(12):
        status, said = Command(*words, cwd=photos).interrupted(signum, draw.uniform(0, 1.1 * takes))
        assert (status, said) in ((STATUS[signum], f"{LINE}\n"), (0, ""))
        assert [path for path in photos.rglob("*.tmp") if path.name.startswith(".")] == []
    assert Command(*words, cwd=photos).ends()[0] == 0
    again = contents(photos / "data")
    assert again.keys() == whole.keys()
    assert {name for name in whole if whole[name] != again[name]} <= {"raw/photos/source.json"}
