"""A directory of class folders, and what is wrong with some."""

import errno
import json
import os
from pathlib import Path

import pytest

from rhs.datasets.folder import fetch
from rhs.datasets.raw_folder import folder_name, read_raw
from rhs.errors import UserError


def make_tree(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


def images_of(raw: Path) -> dict[str, str]:
    index, _ = read_raw(raw)
    return dict(zip(index["name"].to_pylist(), index["class_name"].to_pylist(), strict=True))


FOUR = ("a/1.jpg", "b/1.jpg", "c/1.jpg", "d/1.jpg")


def test_class_is_the_path_of_the_folder(tmp_path):
    root = make_tree(tmp_path / "in", *FOUR, "e/red/1.jpg", "e/blue/1.jpg")
    made = fetch(tmp_path / "raw", str(root))
    assert images_of(tmp_path / "raw")["e/red/1.jpg"] == "e/red"
    assert (made["images"], made["classes"], made["dataset"]) == (6, 6, "raw")
    assert made == json.loads((tmp_path / "raw" / "source.json").read_text())


@pytest.mark.parametrize("beside", [(), ("images/README.txt",)])
def test_a_folder_that_only_wraps_is_stripped(tmp_path, beside):
    root = make_tree(tmp_path / "in", *(f"images/{name}" for name in FOUR), *beside)
    fetch(tmp_path / "raw", str(root))
    assert images_of(tmp_path / "raw") == {name: name[0] for name in FOUR}


def test_a_top_folder_with_images_of_its_own_is_a_class(tmp_path):
    root = make_tree(tmp_path / "in", *(f"cars/{name}" for name in FOUR), "cars/0.jpg")
    fetch(tmp_path / "raw", str(root))
    assert set(images_of(tmp_path / "raw").values()) == {f"cars/{c}" for c in "abcd"} | {"cars"}


def test_root_files_are_refused_and_hidden_files_skipped(tmp_path):
    hidden = ("a/.DS_Store", "__MACOSX/a/1.jpg", ".git/a/x", "b/Thumbs.db")
    root = make_tree(tmp_path / "in", *FOUR, "stray.jpg", *hidden)
    made = fetch(tmp_path / "raw", str(root))
    assert made["refused"] == [
        {"name": "stray.jpg", "why": "no class: it lies outside any class folder"}
    ]
    assert made["images"] == 4
    assert made["notes"] == {"hidden_files_skipped": 4}


def test_links_are_followed_only_inside(tmp_path):
    root = make_tree(tmp_path / "in", *FOUR)
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    (root / "a" / "inside.jpg").symlink_to(root / "b" / "1.jpg")
    (root / "a" / "outside.jpg").symlink_to(tmp_path / "secret.jpg")
    (root / "a" / "broken.jpg").symlink_to("nowhere.jpg")
    (root / "loop").symlink_to(root)
    os.mkfifo(root / "a" / "pipe")
    made = fetch(tmp_path / "raw", str(root))
    assert images_of(tmp_path / "raw") == {n: n[0] for n in FOUR} | {"a/inside.jpg": "a"}
    refused = {entry["name"]: entry["why"] for entry in made["refused"]}
    assert set(refused) == {"a/outside.jpg", "a/broken.jpg", "loop", "a/pipe"}
    assert "not in the folder" in refused["a/outside.jpg"]


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (None, "does not exist"),
        ((), "is empty"),
        (("a/1.jpg", "b/1.jpg", "c/1.jpg"), r"found 3 \(a, b, c\), at least 4"),
        (("1.jpg", "2.jpg"), "2 entries were refused, the first 1.jpg"),
    ],
)
def test_wrong_sources_leave_nothing_behind(tmp_path, names, sentence):
    root = tmp_path / "in"
    if names is not None:
        root.mkdir()
        make_tree(root, *names)
    with pytest.raises(UserError, match=sentence):
        fetch(tmp_path / "data" / "raw", str(root))
    assert not list((tmp_path).glob("data/*[!v]"))  # but a list of what was refused


def test_a_failed_fetch_keeps_the_one_before(tmp_path):
    fetch(tmp_path / "raw", str(make_tree(tmp_path / "in", *FOUR)))
    with pytest.raises(UserError):
        fetch(tmp_path / "raw", str(make_tree(tmp_path / "three", *FOUR[:3])))
    assert len(images_of(tmp_path / "raw")) == 4
    fetch(tmp_path / "raw", str(make_tree(tmp_path / "in", "e/1.jpg")))
    assert len(images_of(tmp_path / "raw")) == 5
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "raw", "three"]


@pytest.mark.parametrize("name", ["glyphs", "my.photos-2_b", "-x"])
def test_names_of_folders(name):
    assert folder_name(name) == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../../x", "a/b", "/tmp", ".x.tmp", "a b", "a\n", None, 5, "x" * 101]
)
def test_names_that_are_of_no_folder_here(name):
    with pytest.raises(UserError, match=r"^dataset\.name is .*; it must be text of letters"):
        folder_name(name)


@pytest.mark.parametrize(
    ("file", "text", "sentence"),
    [
        ("index.parquet", None, "holds no index.parquet"),
        ("index.parquet", "PAR1 no table PAR1", "is damaged"),
        ("source.json", None, "is damaged .*No such file"),
        ("source.json", '{"dataset": ', "is damaged"),
        ("source.json", "5", "is damaged"),
        ("source.json", '{"dataset": "x"}', r"source\.json has no classes, images, notes, refused"),
    ],
)
def test_a_damaged_raw_folder_is_to_be_fetched_again(tmp_path, file, text, sentence):
    fetch(tmp_path / "raw", str(make_tree(tmp_path / "in", *FOUR)))
    (tmp_path / "raw" / file).unlink()
    if text:
        (tmp_path / "raw" / file).write_text(text)
    with pytest.raises(UserError, match=f"{sentence}.*: run the fetch stage") as caught:
        read_raw(tmp_path / "raw")
    assert "\n" not in str(caught.value)


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
    root = make_tree(tmp_path / "in", *(f"class{i}/{j}.png" for i in range(5) for j in range(2)))
    plain = os.scandir

    def scandir(path):
        if Path(path).name == "class3":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return plain(path)

    monkeypatch.setattr(os, "scandir", scandir)
    made = fetch(tmp_path / "raw", str(root))
    assert made["classes"] == 4
    assert made["refused"] == [{"name": "class3", "why": "unreadable: Permission denied"}]
