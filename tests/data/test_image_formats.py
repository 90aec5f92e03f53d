"""What a file's first bytes tell, and what text must not be taken for."""

import io

import pytest
from PIL import Image, features

from rhs.data.image_formats import UNREAD, content, ending, not_read


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("JPEG", "JPEG"),
        ("PNG", "PNG"),
        ("GIF", "GIF"),
        ("BMP", "BMP"),
        ("TIFF", "TIFF"),
        ("WEBP", "WEBP"),
        ("PPM", "PPM"),
        ("JPEG2000", "JPEG 2000"),
        ("QOI", "QOI"),
        ("AVIF", "AVIF"),
        ("ICO", "icon"),
        ("EPS", "PostScript"),
        ("DDS", "DDS"),
        ("PDF", "PDF"),
    ],
)
def test_what_pillow_writes_is_known(kind, name):
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(buffer, kind)
    assert content(buffer.getvalue()) == name


@pytest.mark.parametrize(
    "text", [b"", b"BMW is a make", b"P1 is a class", b"P5, P6", b"II", b"\0" * 64, b"{}", b"<a>"]
)
def test_text_and_nothing_are_no_format(text):
    assert content(text) == ""


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1", "AVIF"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avif", "AVIF"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "camera raw"),
        (b"II*\0\x10\0\0\0CR\2\0", "camera raw"),
        (b"\0\0\0\x14ftypqt  ", "video"),
        (b"7z\xbc\xaf\x27\x1c\0\4", "7z archive"),
        (b"Rar!\x1a\x07\x01\0", "RAR archive"),
        (b"\x28\xb5\x2f\xfd\x04", "zstd"),
    ],
)
def test_formats_that_pillow_does_not_write(head, name):
    assert content(head) == name


def test_what_is_not_read_says_what_reads_it():
    assert not_read("HEIC").startswith("HEIC, which is not read: pip install pillow-heif")
    assert not_read("JPEG") == not_read("") == ""
    assert all(UNREAD.values())


def test_endings():
    assert [ending(n) for n in ("a/B.JPG", "b", ".x", "a.tar.GZ")] == [".jpg", "", "", ".gz"]
