"""Archives are indexed in place, and a harmful or damaged one is refused whole."""

import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from rhs.datasets import folder
from rhs.datasets.raw import read_raw
from rhs.errors import UserError

FILES = {f"{c}/{i}.png": f"{c}{i}".encode() * 40 for c in "abcd" for i in range(2)}


def make_tar(path: Path, files: dict[str, bytes], mode: str = "w", extra: tuple = ()) -> Path:
    with tarfile.open(path, mode) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        for member in extra:
            tar.addfile(member)
    return path


def make_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def indexed(raw: Path) -> dict[str, bytes]:
    """Name -> the bytes that the index points at, after checking them against its checksum."""
    contents = {}
    for row in read_raw(raw)[0].to_pylist():
        data = (raw / row["file"]).read_bytes()[row["offset"] :][: row["size"]]
        assert hashlib.sha256(data).hexdigest() == row["sha256"]
        contents[row["name"]] = data
    return contents


def test_tar_is_read_where_it_lies(tmp_path):
    source = make_tar(tmp_path / "x.tar", {f"./{name}": data for name, data in FILES.items()})
    folder.fetch(tmp_path / "raw", str(source))
    assert indexed(tmp_path / "raw") == FILES
    assert {p.name for p in (tmp_path / "raw").iterdir()} == {"index.parquet", "source.json"}


@pytest.mark.parametrize("name", ["x.tar.gz", "x.tgz", "x.zip"])
def test_compressed_archives_become_one_tar(tmp_path, name):
    if name.endswith("zip"):
        source = make_zip(tmp_path / name, FILES)
    else:
        source = make_tar(tmp_path / name, FILES, "w:gz")
    folder.fetch(tmp_path / "raw", str(source))
    assert indexed(tmp_path / "raw") == FILES
    assert (tmp_path / "raw" / "images.tar").exists()


@pytest.mark.parametrize("name", ["../evil.png", "/etc/evil.png", "a/../../evil.png"])
@pytest.mark.parametrize("make", [make_tar, make_zip])
def test_member_outside_the_folder_refuses_the_whole_archive(tmp_path, make, name):
    source = make(tmp_path / "x.archive", {**FILES, name: b"x"})
    with pytest.raises(UserError, match="points outside its folder"):
        folder.fetch(tmp_path / "data" / "raw", str(source))
    assert list((tmp_path / "data").iterdir()) == []


def test_links_and_devices_are_refused_and_named(tmp_path):
    extra = (
        special("a/link.png", tarfile.SYMTYPE, "/etc/passwd"),
        special("a/hard.png", tarfile.LNKTYPE, "a/0.png"),
        special("a/null", tarfile.CHRTYPE),
    )
    source = make_tar(tmp_path / "x.tar", FILES, extra=extra)
    made = folder.fetch(tmp_path / "raw", str(source))
    assert indexed(tmp_path / "raw") == FILES
    assert {r["name"]: r["why"] for r in made["refused"]} == {
        "a/link.png": "link: to /etc/passwd",
        "a/hard.png": "link: to a/0.png",
        "a/null": "device",
    }


def test_a_name_twice_keeps_the_last_and_says_so(tmp_path):
    source = make_tar(tmp_path / "x.tar", {**FILES, "./a/0.png": b"newer"})
    made = folder.fetch(tmp_path / "raw", str(source))
    assert indexed(tmp_path / "raw")["a/0.png"] == b"newer"
    assert [r["name"] for r in made["refused"]] == ["a/0.png"]


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda data: data[: len(data) // 2], "damaged"),  # cut short
        (lambda data: data[:1024] + b"\xff" * 512 + data[1536:], "damaged at byte 1024"),
        (lambda data: b"GIF89a no archive at all" * 99, "not an archive"),
        (lambda data: b"", "empty"),
    ],
)
def test_damaged_tar(tmp_path, damage, sentence):
    source = make_tar(tmp_path / "x.tar", {n: d * 40 for n, d in FILES.items()})
    source.write_bytes(damage(source.read_bytes()))
    if sentence == "damaged at byte 1024":
        source = make_tar(tmp_path / "y.tar", {"a/1.png": b"x"})
        source.write_bytes(damage(source.read_bytes()))
    with pytest.raises(UserError, match=sentence):
        folder.fetch(tmp_path / "data" / "raw", str(source))
    assert list((tmp_path / "data").iterdir()) == []


@pytest.mark.parametrize("make", [make_zip, lambda p, files: make_tar(p, files, "w:gz")])
def test_damaged_compressed_archive(tmp_path, make):
    source = make(tmp_path / "x", {n: hashlib.sha512(d).digest() * 9 for n, d in FILES.items()})
    source.write_bytes(source.read_bytes()[:300])
    with pytest.raises(UserError, match="damaged"):
        folder.fetch(tmp_path / "data" / "raw", str(source))
    assert list((tmp_path / "data").iterdir()) == []


def test_names_that_are_not_utf8_are_kept_printable(tmp_path):
    source = make_tar(tmp_path / "x.tar", {**FILES, "a/\udcff.png": b"latin"})
    folder.fetch(tmp_path / "raw", str(source))
    assert indexed(tmp_path / "raw")["a/\\xff.png"] == b"latin"
