"""What happens to one encoded image, without Ray."""

import io
import struct
import zlib
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image, features

from rhs.preprocessing.prepare_image import BadImage, prepare_image


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def picture(mode: str = "RGB", size: tuple[int, int] = (40, 30), seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


@pytest.mark.parametrize(
    ("mode", "kind"), [("RGB", "JPEG"), ("L", "JPEG"), ("RGB", "PNG"), ("L", "PNG")]
)
def test_what_needs_no_change_keeps_its_bytes(mode, kind):
    data = encoded(picture(mode), kind)
    assert prepare_image(data, 256, 95)[:5] == (data, 40, 30, None, False)


@pytest.mark.parametrize(
    ("image", "kind", "expected", "converted"),
    [
        (picture("1"), "PNG", "L", "1 -> L"),
        (picture("P"), "PNG", "RGB", "P -> RGB"),
        (picture("LA"), "PNG", "L", "LA -> L"),
        (picture("RGBA"), "PNG", "RGB", "RGBA -> RGB"),
        (picture("CMYK"), "JPEG", "RGB", "CMYK -> RGB"),
        (picture("RGB"), "BMP", "RGB", "BMP -> PNG"),
        (picture("RGB"), "WEBP", "RGB", "WEBP -> JPEG"),
        (picture("RGB"), "JPEG2000", "RGB", "JPEG2000 -> JPEG"),
        (picture("RGB"), "TIFF", "RGB", "TIFF -> PNG"),
        (picture("L"), "PPM", "L", "PPM -> PNG"),
    ],
)
def test_modes_and_formats(image, kind, expected, converted):
    prepared = prepare_image(encoded(image, kind), 256, 95)
    assert prepared.converted == converted
    result = opened(prepared.data)
    assert (result.mode, result.size) == (expected, (40, 30))
    assert result.format in ("PNG", "JPEG")


def test_transparency_becomes_white():
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    for data in (encoded(clear), encoded(palette, transparency=1)):
        assert opened(prepare_image(data, 256, 95).data).getpixel((0, 0)) == (255, 255, 255)


def test_sixteen_bits_keep_their_high_byte():
    ramp = Image.fromarray(np.arange(0, 65536, 256, dtype=np.uint16).reshape(16, 16))
    prepared = prepare_image(encoded(ramp), 256, 95)
    assert np.array_equal(np.asarray(opened(prepared.data)).ravel(), np.arange(256))


@pytest.mark.parametrize(
    ("kind", "pixels", "least", "most", "why"),
    [
        ("TIFF", np.int32, 0, 200, "too dark: 16-bit pixels of 0 to 200, .* at most 1 of 256"),
        ("PNG", np.uint16, 0, 4095, "too dark: 16-bit pixels of 0 to 4095, .* at most 16 of"),
        ("TIFF", np.int32, 0, 65536, "unsupported mode: 32-bit pixels, 0 to 65536"),
        ("TIFF", np.int32, 100_000, 900_000, "unsupported mode: 32-bit pixels"),
        ("TIFF", np.int32, -1, 60_000, "unsupported mode: 32-bit pixels, -1 to 60000"),
        ("PNG", np.uint16, 0, 4096, None),
        ("TIFF", np.int32, 0, 65535, None),
        ("PNG", np.uint16, 0, 0, None),  # black it was before
        ("PPM", np.uint16, 0, 65535, None),
    ],
)
def test_grays_that_eight_bits_would_not_show(kind, pixels, least, most, why, monkeypatch):
    monkeypatch.setattr(
        "rhs.preprocessing.image_conversion.STRIP", 40
    )  # the bright pixel is in another strip
    gray = np.full((30, 40), least, pixels)
    gray[29, 39] = most
    data = encoded(Image.fromarray(gray), kind)
    if why:
        with pytest.raises(BadImage, match=f"^{why}"):
            prepare_image(data, 256, 95)
    else:
        shown = np.asarray(opened(prepare_image(data, 256, 95).data))
        assert (shown.min(), shown.max()) == (least >> 8, most >> 8)


def test_exif_orientation_is_applied_once():
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by a quarter
    prepared = prepare_image(encoded(picture(), "JPEG", exif=exif), 256, 95)
    assert (prepared.width, prepared.height) == (30, 40)
    assert prepared.converted == "EXIF orientation applied"
    assert opened(prepared.data).getexif().get(0x0112, 1) == 1


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_only_the_first_frame(kind):
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    how = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **how)
    prepared = prepare_image(data, 256, 100)
    shown = np.asarray(opened(prepared.data).convert("RGB"), dtype=int)
    assert np.abs(shown - (255, 0, 0)).max() <= 2
    said = {"TIFF": "TIFF of several pages -> first page"}.get(kind, f"animated {kind} -> first")
    assert prepared.converted.startswith(said)
    assert prepared.several
    assert not getattr(opened(prepared.data), "is_animated", False)


def test_the_previews_of_a_camera_are_no_animation():
    pictures = [picture(seed=seed) for seed in (0, 1)]
    data = encoded(pictures[0], "MPO", save_all=True, append_images=pictures[1:])
    prepared = prepare_image(data, 256, 95)
    assert prepared == (data, 40, 30, None, False, "MPO", False)
    small = prepare_image(data, 15, 95)
    assert (small.width, small.height, opened(small.data).format) == (20, 15, "JPEG")


def test_short_side_only_shrinks():
    prepared = prepare_image(encoded(picture(size=(400, 300)), "JPEG"), 60, 95)
    assert (prepared.width, prepared.height, prepared.resized) == (80, 60, True)
    assert opened(prepared.data).size == (80, 60)
    assert not prepare_image(encoded(picture()), 60, 95).resized


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "zero size"),
        (
            b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200),
            "HEIC, which is not read: .*pillow-heif",
        ),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + bytes(200), "HEIC, which is not read"),
        (b"\xff\x0a" + bytes(90), "JPEG XL, which is not read: .*djxl"),
        (b"8BPS\0\1" + bytes(90), "Photoshop, which is not read"),
        (b"<svg xmlns=", "SVG, which is not read"),
        (b"%PDF-1.7", "PDF, which is not read"),
        (b"\0\0\0\x20ftypisom" + bytes(90), "video, which is not read"),
        (b"PK\3\4" + bytes(90), "zip archive, which is not read: unpack it"),
        (encoded(picture(), "ICO"), "icon, which is not read"),
        (b"some text, long enough to look at", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript, which is not read"),
        (encoded(picture(), "JPEG")[:-200], "truncated"),
        (encoded(picture())[:-300], "truncated"),
        (encoded(picture(size=(40, 1))), "too small: 40 x 1 pixels"),
        (encoded(picture(size=(1, 1)), "JPEG"), "too small: 1 x 1 pixels"),
        (encoded(Image.new("F", (8, 8)), "TIFF"), "unsupported mode"),
    ],
)
def test_refusals_name_their_kind(data, why):
    with pytest.raises(BadImage, match=f"^{why}"):
        prepare_image(data, 256, 95)


@pytest.mark.parametrize("kind", ["AVIF", "QOI", "TGA", "JPEG2000"])
def test_newer_and_older_formats_are_taken(kind):
    if not features.check({"JPEG2000": "jpg_2000", "AVIF": "avif"}.get(kind, "zlib")):
        pytest.skip(f"this Pillow has no {kind}")
    prepared = prepare_image(encoded(picture(), kind), 256, 95)
    assert prepared.source == kind
    assert (prepared.width, prepared.height) == picture().size
    assert prepared.converted.startswith(f"{kind} -> ")


def test_decompression_bomb_is_not_decoded(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    with pytest.raises(BadImage, match=r"^decompression bomb"):
        prepare_image(encoded(picture()), 256, 95)


def png(width: int, height: int, *more: tuple[bytes, bytes]) -> bytes:
    """A PNG that says it has this size, with chunks (kind, content) before 30 rows of 40 pixels."""
    rows = zlib.compress(bytes(30 * 41))
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n"
    for kind, content in [(b"IHDR", header), *more, (b"IDAT", rows), (b"IEND", b"")]:
        check = struct.pack(">I", zlib.crc32(kind + content))
        data += struct.pack(">I", len(content)) + kind + content + check
    return data


@pytest.mark.parametrize(
    ("size", "most", "why"),
    [
        ((40, 31), 1200, "40 x 31 pixels, max_pixels is 1200"),
        ((11_000, 10_000), 100_000_000, "11000 x 10000 pixels, max_pixels is 100000000"),
        ((20_000, 20_000), 100_000_000, r"Image size \(400000000 pixels\) exceeds limit"),
    ],
)
def test_too_many_pixels_are_not_decoded(size, most, why):
    with pytest.raises(BadImage, match=f"^decompression bomb: {why}"):
        prepare_image(png(*size), 256, 95, most)


def test_as_many_pixels_as_are_allowed():
    assert prepare_image(png(40, 30), 256, 95, 1200).width == 40


@pytest.mark.parametrize("chunk", [b"zTXt", b"iCCP", b"iTXt"])
def test_what_unpacks_to_far_more_is_refused(chunk):
    packed = zlib.compress(bytes(2**24))
    before = b"text\0\1\0\0\0" if chunk == b"iTXt" else b"text\0\0"
    with pytest.raises(BadImage, match=r"^damaged: Decompressed data too large"):
        prepare_image(png(40, 30, (chunk, before + packed)), 256, 95)


def test_a_cut_file_is_noticed_at_reduced_scale_too():
    data = encoded(picture(size=(400, 300)), "JPEG")
    assert prepare_image(data, 30, 95).resized
    with pytest.raises(BadImage, match=r"^truncated"):
        prepare_image(data[:-2000], 30, 95)


def test_bytes_beyond_the_picture_are_dropped():
    data = encoded(picture(), "JPEG") + bytes(200_000)
    prepared = prepare_image(data, 256, 95)
    assert prepared.converted == "metadata dropped"
    assert len(prepared.data) < 10_000
    assert prepare_image(prepared.data, 256, 95).converted is None


def test_garbage_inside_an_image_never_escapes():
    whole = {
        kind: encoded(picture(seed=1), kind) for kind in ("PNG", "JPEG", "GIF", "TIFF", "WEBP")
    }
    noise = np.random.default_rng(0)
    for data in whole.values():
        for _ in range(60):
            broken = bytearray(data)
            for place in noise.integers(8, len(data), 12):
                broken[place] = noise.integers(256)
            with suppress(BadImage):
                prepare_image(bytes(broken), 256, 95)
