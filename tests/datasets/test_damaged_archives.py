"""Archives whose bytes were changed, by accident or with intent: a sentence, and little memory."""

import errno
import io
import random
import tarfile
import tracemalloc
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest

from rhs.datasets.archive import list_archive
from rhs.errors import UserError

FILES = {name: bytes(300) for name in ("a" * 120 + "/0.png", "b/ü.png", "c/0.png")}


def make(path: Path, files: dict[str, bytes], kind: str) -> None:
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        return
    form = {"gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}[kind]
    with tarfile.open(path, "w", format=form) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def special(name: str, kind: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type = kind
    return member


@pytest.mark.parametrize("kind", ["long name", "link", "pax", "global"])
def test_headers_that_would_fill_the_memory(tmp_path, kind):
    letter = {"long name": b"L", "link": b"K", "pax": b"x", "global": b"g"}[kind]
    source = tmp_path / "x.tar"
    for size in (2_000_000, 100_000_000):
        header = special("x", letter)
        header.size = size
        with source.open("wb") as file:
            file.write(header.tobuf(tarfile.USTAR_FORMAT))
            file.truncate(512 + size + 10_240)
        tracemalloc.start()
        with pytest.raises(UserError, match="headers are larger than 1,048,576 bytes"):
            list_archive(source, tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1 << 20


def test_headers_that_together_would_fill_the_memory(tmp_path):
    """Each is small, but all of them hold for the last file, or are kept to the end."""
    source = tmp_path / "x.tar"
    for letter, between in ((b"L", b""), (b"g", special("a/0.png", b"0").tobuf())):
        with source.open("wb") as file:
            for number in range(40):
                text = f"comment{number}={'x' * 65_000}\n"
                text = f"{len(text) + 6} {text}"
                header = special("x", letter)
                header.size = len(text)
                blocks = text.encode().ljust(-(-len(text) // 512) * 512, b"\0")
                file.write(header.tobuf(tarfile.USTAR_FORMAT) + blocks + between)
            file.write(special("a/1.png", b"0").tobuf() + bytes(1024))
        with pytest.raises(UserError, match="headers are larger than"):
            list_archive(source, tmp_path)


def test_long_names_are_kept(tmp_path):
    files = {f"{'a' * 60}/{'ü' * 20_000}{n}.png": b"%d" % n for n in range(60)}
    for kind in ("gnu", "pax"):
        make(tmp_path / "x.tar", files, kind)
        assert {f.path for f in list_archive(tmp_path / "x.tar", tmp_path).found} == set(files)


@pytest.mark.parametrize("kind", ["gnu", "pax", "zip"])
def test_whatever_bytes_are_changed_there_is_a_listing_or_a_sentence(tmp_path, kind):
    source, chance = tmp_path / "x", random.Random(kind)
    make(source, FILES, kind)
    whole = source.read_bytes()
    places = [i for i, byte in enumerate(whole) if byte or kind == "zip"]
    outcomes = set()
    for _ in range(300):
        data = bytearray(whole)
        for place in chance.choices(places, k=chance.randint(1, 4)):
            data[place] = chance.choice(b"\x00\x01\x80\xff-09SxLKg")
            start = place // 512 * 512
            if kind != "zip" and data[start + 257 : start + 262] == b"ustar":
                header = data[start : start + 512]  # its checksum is right again
                total = sum(header[:148]) + 256 + sum(header[156:])
                data[start + 148 : start + 156] = b"%06o\0 " % total
        source.write_bytes(data)
        try:
            outcomes.add(type(list_archive(source, tmp_path)))
        except UserError as error:
            outcomes.add(type(error))
            assert str(source) in str(error)  # noqa: PT017
    assert len(outcomes) == 2


def test_a_file_without_a_name(tmp_path):
    source = tmp_path / "x.zip"
    make(source, FILES, "zip")
    source.write_bytes(source.read_bytes().replace(b"c/0.png", b"\0/0.png"))
    with suppress(UserError):  # as older versions of Python cannot read it
        assert len(list_archive(source, tmp_path).found) == len(FILES)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("kind", ["pax", "zip"])
def test_a_bad_disk_is_not_the_archives_fault(tmp_path, monkeypatch, kind, number):
    def fail(*_) -> None:
        raise OSError(number, "the disk")

    source = tmp_path / "x"
    make(source, FILES, kind)
    reader, method = (zipfile.ZipFile, "open") if kind == "zip" else (tarfile.TarInfo, "frombuf")
    monkeypatch.setattr(reader, method, fail)
    with pytest.raises(OSError, match="the disk"):
        list_archive(source, tmp_path)
