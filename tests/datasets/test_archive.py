"""Archives are indexed in place, and a harmful or damaged one is refused whole."""

import hashlib
import io
import lzma
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from rhs.datasets import folder
from rhs.datasets.archive import list_archive
from rhs.datasets.archive_limits import Limits
from rhs.datasets.raw_folder import read_raw
from rhs.errors import UserError
from rhs.storage.atomic import atomic_folder
from rhs.storage.outputs import RAW

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


def make_tgz(path: Path, files: dict[str, bytes]) -> Path:
    return make_tar(path, files, "w:gz")


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


@pytest.mark.parametrize("name", ["x.tar.gz", "x.tgz", "x.zip", "x.tar.bz2", "x.tar.xz"])
def test_compressed_archives_become_one_tar(tmp_path, name):
    if name.endswith("zip"):
        source = make_zip(tmp_path / name, FILES)
    else:
        source = make_tar(tmp_path / name, FILES, f"w:{name[-3:].strip('.').replace('tgz', 'gz')}")
    folder.fetch(tmp_path / "raw", str(source))
    assert indexed(tmp_path / "raw") == FILES
    assert (tmp_path / "raw" / "images.tar").exists()


@pytest.mark.parametrize("kind", ["bz2", "xz"])
@pytest.mark.parametrize("damage", [lambda d: d[: len(d) // 2], lambda d: d[:20] + b"x" * 40])
def test_a_damaged_packed_tar(tmp_path, kind, damage):
    source = make_tar(tmp_path / "x", FILES, f"w:{kind}")
    source.write_bytes(damage(source.read_bytes()))
    with pytest.raises(UserError, match=r"is damaged .*; get it anew"):
        folder.fetch(tmp_path / "raw", str(source))


def test_an_xz_of_several_streams_and_one_that_would_fill_the_memory(tmp_path):
    data = make_tar(tmp_path / "x.tar", FILES).read_bytes()
    parts = [lzma.compress(data[:3000]), bytes(8), lzma.compress(data[3000:])]
    (tmp_path / "x.tar.xz").write_bytes(b"".join(parts))
    folder.fetch(tmp_path / "raw", str(tmp_path / "x.tar.xz"))
    assert indexed(tmp_path / "raw") == FILES
    greedy = [{"id": lzma.FILTER_LZMA2, "dict_size": 2**30, "preset": 0}]
    (tmp_path / "x.tar.xz").write_bytes(lzma.compress(data, filters=greedy))
    with pytest.raises(UserError, match="Memory usage limit"):
        folder.fetch(tmp_path / "raw", str(tmp_path / "x.tar.xz"))


@pytest.mark.parametrize(
    ("magic", "sentence"),
    [
        (b"7z\xbc\xaf\x27\x1c", r"is 7z archive.* \(7z x\)"),
        (b"Rar!\x1a\x07\x01", r"is RAR archive.* \(unrar x\)"),
        (b"\x28\xb5\x2f\xfd", r"is zstd.* tar --zstd"),
    ],
)
def test_archives_that_are_not_read_say_what_unpacks_them(tmp_path, magic, sentence):
    (tmp_path / "x").write_bytes(magic + bytes(90))
    with pytest.raises(UserError, match=f"{sentence}.*give the folder"):
        folder.fetch(tmp_path / "data" / "raw", str(tmp_path / "x"))


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


@pytest.mark.parametrize("make", [make_zip, make_tgz])
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


def refused(source: Path, data: Path, **limits: int) -> tuple[str, int]:
    """The sentence, and how many bytes had been unpacked when it was said; nothing is left."""
    unpacked = 0
    with pytest.raises(UserError) as caught, atomic_folder(data / "raw", RAW) as raw:  # noqa: PT012
        try:
            list_archive(source, raw, Limits(**limits))
        finally:
            unpacked = sum(path.stat().st_size for path in raw.iterdir())
    assert list(data.iterdir()) == []
    assert str(source) in str(caught.value)
    return str(caught.value), unpacked


@pytest.mark.parametrize("make", [make_tar, make_tgz, make_zip])
def test_limits_of_number_and_size(tmp_path, make):
    source = make(tmp_path / "x", {**FILES, "a/!large.png": b"x" * 700})
    sentence, count_seen_after = refused(source, tmp_path / "data", members=8)
    assert "more than 8 files and folders" in sentence
    sentence, size_seen_after = refused(source, tmp_path / "data", member=699)
    assert "a file of 700 bytes, 'a/!large.png'; at most 699" in sentence
    if make is make_zip:  # it has a list of its files, so nothing need be unpacked to see that
        assert count_seen_after == size_seen_after == 0
    with atomic_folder(tmp_path / "data" / "raw", RAW) as raw:
        assert len(list_archive(source, raw, Limits(members=9, member=700)).found) == 9


@pytest.mark.parametrize("make", [make_tgz, make_zip])
@pytest.mark.parametrize("limits", [{"always": 1_000_000}, {"total": 5_000_000}])
def test_a_bomb_is_stopped_while_it_unpacks(tmp_path, make, limits):
    source = make(tmp_path / "x", {f"{c}/0.png": bytes(4_000_000) for c in "abcdefg"})
    size = source.stat().st_size
    assert size * 400 < 28_000_000
    sentence, unpacked = refused(source, tmp_path / "data", **limits)
    most = limits.get("total", max(1_000_000, 200 * size))
    assert f"unpacks to more than {most:,} bytes from {size:,}" in sentence
    assert unpacked <= most


def test_a_bomb_whose_files_share_the_same_packed_bytes(tmp_path):
    source = make_zip(tmp_path / "x.zip", {"a/0.png": bytes(1 << 20)})
    data = source.read_bytes()
    start, end = data.index(b"PK\x01\x02"), data.index(b"PK\x05\x06")
    entries, count = data[start:end] * 500, (500).to_bytes(2, "little")
    last = count * 2 + len(entries).to_bytes(4, "little") + start.to_bytes(4, "little") + b"\0\0"
    source.write_bytes(data[:start] + entries + b"PK\x05\x06" + bytes(4) + last)
    sentence, unpacked = refused(source, tmp_path / "data", always=1, ratio=100)
    # Newer versions of Python see for themselves that they overlap.
    assert "unpacks to more than" in sentence or "damaged" in sentence
    assert unpacked <= 100 * source.stat().st_size < 500 << 20


@pytest.mark.parametrize("declared", [10, 1 << 29])
def test_a_declared_size_is_not_believed(tmp_path, declared):
    source = make_zip(tmp_path / "x.zip", {"a/0.png": bytes(1 << 20)})
    data = source.read_bytes()
    assert data.count((1 << 20).to_bytes(4, "little")) == 2  # before the file, and in the index
    true, lie = ((1 << 20).to_bytes(4, "little"), declared.to_bytes(4, "little"))
    source.write_bytes(data.replace(true, lie))
    sentence, unpacked = refused(source, tmp_path / "data")
    assert "damaged" in sentence
    assert unpacked < 3 << 20


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_are_read_and_their_damage_seen(tmp_path, method):
    source = tmp_path / "x.zip"
    with zipfile.ZipFile(source, "w", method) as archive:
        for name, data in FILES.items():
            archive.writestr(name, hashlib.sha512(data).digest() * 9)
    folder.fetch(tmp_path / "raw", str(source))
    assert len(indexed(tmp_path / "raw")) == len(FILES)
    data = source.read_bytes()
    source.write_bytes(data[:60] + bytes(30) + data[90:])
    with pytest.raises(UserError, match="damaged"):
        folder.fetch(tmp_path / "data" / "raw", str(source))


@pytest.mark.parametrize("make", [make_tar, make_tgz, make_zip])
def test_a_large_file_does_not_lie_in_memory(tmp_path, make):
    size = 48 << 20
    source = make(tmp_path / "x", {"a/0.png": bytes(size)})
    with atomic_folder(tmp_path / "raw", RAW) as raw:
        tracemalloc.start()
        found = list_archive(source, raw).found
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert found[0].sha256 == hashlib.sha256(bytes(size)).hexdigest()
    assert peak < 4 << 20
