"""Where a path of the parameters points, also in the copies that DVC makes for a queue."""

from pathlib import Path

import pytest
from folders import make_images

from rhs.data.splits import split_classes
from rhs.datasets import folder, table
from rhs.datasets.download.downloads import Downloads
from rhs.paths import in_project, locate, project_folder


@pytest.fixture
def copy(project, monkeypatch) -> Path:
    """A queued experiment's copy of the project, and we are in it."""
    here = project / ".dvc/tmp/exps/tmp1234"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    return here


def test_in_the_project_paths_stay_as_they_are(project, monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    assert locate("photos.tar") == in_project("photos.tar") == Path("photos.tar")
    assert locate("~/photos.tar") == Path("/home/someone/photos.tar")
    assert locate("~nobody-of-that-name/x") == Path("~nobody-of-that-name/x")
    assert locate("(a|b)" * 1000) == Path("(a|b)" * 1000)


def test_in_a_copy_what_it_has_comes_first(copy):
    root = project_folder()
    assert root == copy.parents[3]
    assert locate("photos.tar") == root / "photos.tar"
    assert locate("/photos.tar") == Path("/photos.tar")
    (copy / "photos.tar").touch()
    assert locate("photos.tar") == Path("photos.tar")
    assert in_project("data/downloads") == root / "data/downloads"


def test_every_file_that_a_parameter_names_is_found_from_a_copy(copy):
    root = project_folder()
    images = make_images(root / "photos", [2, 2, 2, 2])
    assert folder.fetch(Path("data/raw/folder"), "photos")["images"] == 8
    rows = [f"{file.relative_to(images)},{file.parent.name}" for file in images.glob("*/*.png")]
    (root / "lists").mkdir()
    (root / "lists/table.csv").write_text("\n".join(["path,label", *rows]))
    downloads = Downloads(mirror="lists")
    made = table.fetch(Path("data/raw/table"), "lists/table.csv", downloads, root="photos")
    assert made["images"] == 8
    (root / "lists/train.txt").write_text("class0\nclass3\n")
    split = split_classes([f"class{i}" for i in range(4)], "lists/train.txt", validation=0)
    assert [name for name in split if split[name] == "train"] == ["class0", "class3"]
    downloads._check_mirror()
    assert downloads.folder == root / "data/downloads"
