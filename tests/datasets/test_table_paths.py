"""The file that a path means, in all the spellings of people and systems."""

import unicodedata

import pytest

from rhs.datasets.table_paths import Paths

NFD = unicodedata.normalize("NFD", "caf\u00e9")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "Photos").mkdir()
    for name in ("a.JPG", "my photo.jpg", "caf\u00e9.jpg", "100%.jpg", "x.jpg", "X.jpg"):
        (tmp_path / "Photos" / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("Photos/a.JPG", "a.JPG"),
        ("./Photos//a.JPG", "a.JPG"),
        ("Photos/a.jpg", "a.JPG"),
        ("photos/A.jpg", "a.JPG"),
        ("Photos\\a.JPG", "a.JPG"),
        (".\\photos\\a.jpg", "a.JPG"),
        ("Photos/my%20photo.jpg", "my photo.jpg"),
        ("photos\\my%20photo.jpg", "my photo.jpg"),
        (f"Photos/{NFD}.jpg", "caf\u00e9.jpg"),
        ("Photos/100%.jpg", "100%.jpg"),
        ("'Photos/a.JPG'", "a.JPG"),
        ("Photos/../Photos/a.JPG", "a.JPG"),
        ("Photos/x.jpg", "x.jpg"),
    ],
)
def test_spellings(folder, path, name):
    assert Paths(folder).find(path) == str(folder / "Photos" / name)


def test_absolute_paths_and_file_addresses(folder):
    file = folder / "Photos" / "my photo.jpg"
    for path in (str(file), file.as_uri(), f"file://localhost{str(file).replace(' ', '%20')}"):
        assert Paths(folder / "elsewhere").find(path) == str(file)


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("Photos/gone.jpg", r"there is no such file in .* \(dataset\.fetch\.root is where"),
        ("Photos/X.JPG", "there is no such file"),  # x.jpg or X.jpg?
        ("https://example.org/a.jpg", "an address: .* download them"),
        ("s3://bucket/a.jpg", "an address"),
        ("data:image/png;base64,AAAA", "an address"),
        (r"C:\Users\me\a.jpg", "a path of Windows"),
        (r"\\server\share\a.jpg", "a path of Windows"),
    ],
)
def test_what_is_not_found_says_why(folder, path, why):
    with pytest.raises(FileNotFoundError, match=why):
        Paths(folder).find(path)


def test_an_error_of_the_disk_is_told_as_such(folder):
    with pytest.raises(OSError, match="too long"):
        Paths(folder).find("x" * 300)
