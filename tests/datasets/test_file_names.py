"""Archives and folders that were made on other systems."""

import unicodedata
import zipfile
from pathlib import Path

import pytest
from nasty import NAMES
from omegaconf import OmegaConf
from tiny_project import class_image, png

from rhs.data.splits import split_classes
from rhs.datasets import folder, table
from rhs.datasets.file_names import zip_names
from rhs.datasets.raw_folder import read_raw

LETTERS = "abcd"


def raw_zip(path: Path, names: list[bytes], system: int = 3) -> Path:
    """A zip whose names are these bytes, without the flag of UTF-8."""
    marks = [chr(ord("A") + i).ljust(len(name), "~") for i, name in enumerate(names)]
    with zipfile.ZipFile(path, "w") as archive:
        for i, mark in enumerate(marks):
            member = zipfile.ZipInfo(mark)
            member.create_system = system
            data = b"" if names[i].endswith((b"/", b"\\")) else png(class_image(i, 0))
            archive.writestr(member, data)
    data = path.read_bytes()
    for name, mark in zip(names, marks, strict=True):
        assert data.count(mark.encode()) == 2
        data = data.replace(mark.encode(), name)
    path.write_bytes(data)
    return path


def classes_of(out: Path) -> set[str]:
    return set(read_raw(out)[0]["class_name"].to_pylist())


@pytest.mark.parametrize(
    ("encoding", "names"),
    [
        ("utf-8", ["año", "größe", "写真", "👍🏽"]),
        ("cp932", ["写真", "犬", "ソファ", "ねこ（白）"]),  # "ソ" ends in a backslash's byte
        ("cp437", ["año", "größe", "été", "naïve"]),
        ("cp437", ["größe", "öß", "ÄÖ", "Äpfel"]),  # some of which cp932 could read
        ("ascii", ["a b", "c#1", "d%20", "e'"]),
    ],
)
def test_zips_that_do_not_say_their_encoding(tmp_path, encoding, names):
    members = [f"{name}/{i}.png".encode(encoding) for name in names for i in range(2)]
    source = raw_zip(tmp_path / "x.zip", members)
    folder.fetch(tmp_path / "raw", str(source))
    assert classes_of(tmp_path / "raw") == set(names)


def test_a_zip_that_says_utf_8(tmp_path):
    names = ["写真", "año", "犬", "e\u0301"]
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for label, name in enumerate(names):
            archive.writestr(f"{name}/1.png", png(class_image(label, 0)))
    folder.fetch(tmp_path / "raw", str(tmp_path / "x.zip"))
    assert classes_of(tmp_path / "raw") == {"写真", "año", "犬", "é"}


@pytest.mark.parametrize(("top", "system"), [("", 0), ("C:\\Users\\me\\photos\\", 0), ("x\\", 3)])
def test_backslashes_of_windows(tmp_path, top, system):
    names = [f"{top}{c}\\{i}.png".encode() for c in LETTERS for i in range(2)]
    source = raw_zip(tmp_path / "x.zip", [f"{top}a\\".encode(), *names], system)
    folder.fetch(tmp_path / "raw", str(source))
    assert classes_of(tmp_path / "raw") == set(LETTERS)


def test_a_backslash_in_a_name_of_another_system_stays(tmp_path):
    members = [zipfile.ZipInfo(name) for name in ("a\\b/1.png", "c/1.png")]
    assert zip_names(members) == ["a\\b/1.png", "c/1.png"]


def test_two_spellings_are_one_class(tmp_path):
    names = [unicodedata.normalize(form, "é") for form in ("NFC", "NFD")]
    for name in [*names, "b", "c", "d"]:
        (tmp_path / "in" / name).mkdir(parents=True)
        (tmp_path / "in" / name / "1.png").write_bytes(png(class_image(len(name), ord(name[0]))))
    folder.fetch(tmp_path / "raw", str(tmp_path / "in"))
    assert classes_of(tmp_path / "raw") == {"b", "c", "d", "é"}
    assert len(read_raw(tmp_path / "raw")[0]) == 5
    lines = ["\ufeffpath,label", *(f"in/{name}/1.png,{name}" for name in [*names, *"bcd"])]
    (tmp_path / "x.csv").write_text("\n".join(lines), encoding="utf-8")
    table.fetch(tmp_path / "raw", str(tmp_path / "x.csv"), None)
    assert classes_of(tmp_path / "raw") == {"b", "c", "d", "é"}


@pytest.mark.parametrize("wanted", [["e\u0301", "b"], "e\u0301|b", "list"])
def test_lists_of_classes_in_the_other_spelling(tmp_path, wanted):
    if wanted == "list":
        wanted = str(tmp_path / "list.txt")
        Path(wanted).write_text("e\u0301\nb\n", encoding="utf-8-sig")
    splits = split_classes(["b", "c", "d", "é"], wanted, None, 0)
    assert {name for name, split in splits.items() if split == "train"} == {"b", "é"}


def test_sources_classes_and_images_of_any_name(tmp_path):
    """In one folder, as archive and as table: each name is a class, and a source."""
    usable = [name for name in NAMES if name != "~a"]
    home = tmp_path / "写真 (1) 100% #2 [x]=y&z"
    for label, name in enumerate(usable):
        (home / name).mkdir(parents=True)
        (home / name / f"{name[:50]}.png").write_bytes(png(class_image(label, 0)))
    folder.fetch(tmp_path / "raw", str(home))
    expected = {unicodedata.normalize("NFC", name) for name in usable}
    assert classes_of(tmp_path / "raw") == expected
    for name in usable:
        source = home / f"{name}.zip"
        with zipfile.ZipFile(source, "w") as archive:
            for label, c in enumerate(LETTERS):
                archive.writestr(f"{c}/{name}.png", png(class_image(label, 0)))
        folder.fetch(tmp_path / "raw", str(source))
        assert classes_of(tmp_path / "raw") == set(LETTERS)
    assert OmegaConf.create({"source": str(home)}).source == str(home)
