"""Folders that exist whole or not at all."""

import subprocess
import sys
from pathlib import Path

import pytest

from rhs.errors import UserError
from rhs.storage.atomic import atomic_file, atomic_folder
from rhs.storage.outputs import RAW, SHARDS

ROOT = Path(__file__).parents[1]

PROCESS = """
import sys
from pathlib import Path
from rhs.storage.atomic import atomic_folder
out, text = sys.argv[1:]
with atomic_folder(Path(out), "abf") as folder:
    for name in "ab":
        (folder / name).write_text(text)
        print("wrote", name, flush=True)
        sys.stdin.readline()
"""


def process(out, text: str) -> subprocess.Popen:
    """Writes two files into `out`; after each it says so and waits for a line."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", PROCESS, str(out), text], cwd=ROOT, **pipes)


def fill(folder, text: str) -> None:
    (folder / "file").write_text(text)


def test_it_replaces_the_older_one(tmp_path):
    out = tmp_path / "out"
    for text in ("first", "second"):
        with atomic_folder(out, ["file"]) as folder:
            fill(folder, text)
    assert (out / "file").read_text() == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_failure_leaves_the_older_one(tmp_path):
    out = tmp_path / "out"
    with atomic_folder(out, ["file"]) as folder:
        fill(folder, "first")
    with pytest.raises(IsADirectoryError), atomic_folder(out, ["file"]) as folder:
        folder.write_text("second")
    assert (out / "file").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_killed_between_its_two_renames(tmp_path):
    out = tmp_path / "out"
    with atomic_folder(out, ["file"]) as folder:
        fill(folder, "first")
    out.rename(tmp_path / ".out.old")  # as a kill at that moment leaves it
    with pytest.raises(RuntimeError), atomic_folder(out, ["file"]):
        raise RuntimeError
    assert (out / "file").read_text() == "first"


@pytest.mark.parametrize("end", ["well", "killed"])
def test_a_second_process_waits_and_then_makes_its_own(tmp_path, end):
    out = tmp_path / "parent" / "out"
    first = process(out, "first")
    assert first.stdout.readline() == "wrote a\n"
    others = [process(out, "second"), process(out, "third")]
    lock = out.with_name(".out.tmp.lock")
    for other in others:
        said = f"another process is making {out}; waiting for it (its lock: {lock})\n"
        assert other.stdout.readline() == said
    assert [path.name for path in (out.parent / ".out.tmp").iterdir()] == ["a"]
    if end == "killed":
        first.kill()
    first.communicate("\n\n", timeout=20)
    assert out.exists() == (end == "well")
    for other in others:
        other.stdin.write("\n\n")
        other.stdin.flush()
    for other in others:
        assert other.communicate(timeout=20)[0] == "wrote a\nwrote b\n"
        assert other.returncode == 0
    assert {(out / name).read_text() for name in "ab"} in ({"second"}, {"third"})
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_an_error_leaves_no_lock(tmp_path):
    for _ in range(2):
        with pytest.raises(RuntimeError), atomic_folder(tmp_path / "out", ["file"]):
            raise RuntimeError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["mine.jpg", "sub/file", "file.jpg", ".hidden"])
def test_files_of_other_names_are_not_replaced(tmp_path, name):
    out = tmp_path / "out"
    (out / name).parent.mkdir(parents=True)
    (out / name).write_text("mine")
    (out / "file").write_text("ours")
    with pytest.raises(UserError, match=r"out holds .*, which no stage made"):  # noqa: SIM117
        with atomic_folder(out, ["file"]):
            raise AssertionError
    assert (out / name).read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_file_that_came_meanwhile(tmp_path):
    out = tmp_path / "out"
    with pytest.raises(UserError, match="holds mine"), atomic_folder(out, ["file"]) as folder:  # noqa: PT012
        fill(folder, "new")
        out.mkdir()
        (out / "mine").write_text("mine")
    assert (out / "mine").read_text() == "mine"


def test_what_is_replaced(tmp_path):
    """An empty folder, and what systems leave or a killed run has half written; but no file."""
    out = tmp_path / "out"
    out.mkdir()
    for leftover in ("", ".DS_Store", ".file.0123abcd.tmp", ".file.tmp"):
        if leftover:
            (out / leftover).write_text("x")
        with atomic_folder(out, ["file"]) as folder:
            fill(folder, "new")
        assert [path.name for path in out.iterdir()] == ["file"]
    with pytest.raises(UserError, match="is a file"), atomic_folder(out / "file", ["file"]):
        raise AssertionError


@pytest.mark.parametrize(("made", "alone"), [(RAW, "images.tar"), (SHARDS, "a-00001.parquet")])
def test_a_name_of_ours_without_what_tells_who_made_the_folder(tmp_path, made, alone):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / alone).write_text("mine")
    with pytest.raises(UserError, match="no stage made"), atomic_folder(tmp_path / "out", made):
        raise AssertionError
    assert (tmp_path / "out" / alone).read_text() == "mine"


def test_a_file_is_there_whole_or_as_it_was(tmp_path):
    path = tmp_path / "file.txt"
    with atomic_file(path) as partial:
        partial.write_text("one")

    def stop_within() -> None:
        with atomic_file(path) as partial:
            partial.write_text("two")
            raise KeyError("stopped")

    with pytest.raises(KeyError):
        stop_within()
    assert path.read_text() == "one"
    assert list(tmp_path.iterdir()) == [path]
