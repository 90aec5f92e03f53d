"""Folders that exist whole or not at all."""

import pytest

from rhs.atomic import whole_folder


def fill(folder, text: str) -> None:
    (folder / "file").write_text(text)


def test_it_replaces_the_older_one(tmp_path):
    out = tmp_path / "out"
    for text in ("first", "second"):
        with whole_folder(out) as folder:
            fill(folder, text)
    assert (out / "file").read_text() == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_failure_leaves_the_older_one(tmp_path):
    out = tmp_path / "out"
    with whole_folder(out) as folder:
        fill(folder, "first")
    with pytest.raises(IsADirectoryError), whole_folder(out) as folder:
        folder.write_text("second")
    assert (out / "file").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_killed_between_its_two_renames(tmp_path):
    out = tmp_path / "out"
    with whole_folder(out) as folder:
        fill(folder, "first")
    out.rename(tmp_path / ".out.old")  # as a kill at that moment leaves it
    with pytest.raises(RuntimeError), whole_folder(out):
        raise RuntimeError
    assert (out / "file").read_text() == "first"
