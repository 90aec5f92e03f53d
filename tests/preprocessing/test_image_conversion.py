"""Sizes, modes, turns and colors of a picture, whatever file it came in."""

import io

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from rhs.preprocessing import image_conversion as module
from rhs.preprocessing.image_conversion import TURNS, bounded_size
from rhs.preprocessing.prepare_image import prepare_image


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def smooth(size: tuple[int, int], mode: str = "RGB") -> Image.Image:
    """Colors that change slowly, as in a photograph."""
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 4), dtype=np.uint8)
    pixels[..., 3] = 255
    return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).convert(mode)


def result(data: bytes, short_side: int = 256) -> Image.Image:
    image = Image.open(io.BytesIO(prepare_image(data, short_side, 95).data))
    image.load()
    return image


def difference(a: Image.Image, b: Image.Image) -> float:
    """Mean over pixels and channels, in levels of 255."""
    assert (a.mode, a.size) == (b.mode, b.size)
    return float(np.abs(np.asarray(a, dtype=float) - np.asarray(b, dtype=float)).mean())


@pytest.mark.parametrize(
    ("size", "short_side", "expected"),
    [
        ((400, 300), 60, (80, 60)),
        ((300, 401), 60, (60, 80)),
        ((40, 30), 256, (40, 30)),
        ((4096, 256), 256, (4096, 256)),  # sixteen times as long as short: as it is
        ((16384, 256), 256, (8192, 128)),  # longer: as many pixels, and no more
        ((200_000, 500), 256, (20480, 51)),
        ((1, 100), 256, (1, 100)),
    ],
)
def test_bounded_size(size, short_side, expected):
    assert bounded_size(*size, short_side) == expected


def test_a_panorama_is_bounded():
    prepared = prepare_image(encoded(smooth((3000, 20)), "JPEG"), 16, 95)
    assert prepared.width * prepared.height <= 16 * 16**2
    assert prepared.resized


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "JPEG2000"])
@pytest.mark.parametrize("side", [800, 400])
def test_shrinking_in_steps_looks_like_lanczos_at_once(kind, side):
    data = encoded(smooth((side + 7, side)), kind)
    with Image.open(io.BytesIO(data)) as image:
        plain = image.resize(bounded_size(*image.size, 50), Image.Resampling.LANCZOS)
    lossy = kind not in ("PNG", "TIFF")
    plain = Image.open(io.BytesIO(encoded(plain, "JPEG", quality=95) if lossy else encoded(plain)))
    assert difference(result(data, 50), plain) < 2


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "I;16"])
def test_strips_leave_no_seam(mode, monkeypatch):
    if mode == "I;16":
        image = Image.fromarray(np.asarray(smooth((611, 503), "L")).astype(np.uint16) * 257)
    else:
        image = smooth((611, 503), mode)
    data = encoded(image, "TIFF" if mode == "CMYK" else "PNG")
    whole = prepare_image(data, 40, 95)
    monkeypatch.setattr(module, "STRIP", 20 * 611)
    assert prepare_image(data, 40, 95) == whole
    assert (whole.width, whole.height) == (49, 40)


@pytest.mark.parametrize("size", [(24, 16), (480, 320)])
def test_transparent_colors_do_not_bleed(size):
    """Red beside clear green: nowhere may the green be seen."""
    pixels = np.zeros((size[1], size[0], 4), dtype=np.uint8)
    pixels[:, : size[0] // 2] = (255, 0, 0, 255)
    pixels[:, size[0] // 2 :] = (0, 255, 0, 0)
    shown = np.asarray(result(encoded(Image.fromarray(pixels)), 16), dtype=int)
    assert shown.shape == (16, 24, 3)
    assert np.abs(shown[..., 1] - shown[..., 2]).max() <= 1
    assert tuple(shown[8, 0]) == (255, 0, 0)
    assert tuple(shown[8, -1]) == (255, 255, 255)


@pytest.mark.parametrize("mode", ["LA", "PA", "P"])
def test_clear_is_white_in_every_mode(mode):
    clear = Image.new("RGBA", (40, 40), (90, 90, 90, 0)).convert(mode)
    if mode == "P":
        clear = Image.new("P", (40, 40), 1)
        clear.putpalette([0, 0, 0, 255, 0, 0])
    options = {"transparency": 1} if mode == "P" else {}
    data = encoded(clear, "TIFF" if mode == "PA" else "PNG", **options)
    shown = result(data, 8)
    assert shown.mode == ("L" if mode == "LA" else "RGB")
    assert np.all(np.asarray(shown) == 255)


@pytest.mark.parametrize("short_side", [256, 8])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation(orientation, short_side):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = smooth((40, 30))
    data = encoded(image, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    upright = upright.resize(bounded_size(*upright.size, short_side), Image.Resampling.LANCZOS)
    shown = result(data, short_side)
    assert difference(shown, upright) == (0 if short_side == 256 else pytest.approx(0, abs=1))
    assert shown.getexif().get(0x0112, 1) == 1
    noted = prepare_image(data, short_side, 95).converted
    assert noted == ("EXIF orientation applied" if orientation in TURNS else None)


@pytest.mark.parametrize("exif", [b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"Exif\0\0nonsense", b"Exif"])
def test_broken_exif_turns_nothing(exif):
    assert prepare_image(encoded(smooth((40, 30)), "JPEG", exif=exif), 256, 95).converted is None


@pytest.mark.parametrize("value", [0, 9, 6000])
def test_an_orientation_that_is_none(value):
    exif = Image.Exif()
    exif[0x0112] = value
    assert prepare_image(encoded(smooth((40, 30)), "JPEG", exif=exif), 256, 95).converted is None


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_of_known_inks(kind):
    """Adobe's JPEGs hold CMYK inverted; either way, yellow and magenta are red."""
    shown = result(encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), kind))
    assert np.abs(np.asarray(shown, dtype=int) - (255, 0, 0)).max() <= 3


def profile_with_red_and_green_swapped() -> bytes:
    data = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return data.replace(b"rXYZ", b"....").replace(b"gXYZ", b"rXYZ").replace(b"....", b"gXYZ")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_a_color_profile_is_applied_once(kind):
    profile = profile_with_red_and_green_swapped()
    how = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(Image.new("RGB", (16, 16), "red"), kind, icc_profile=profile, **how)
    prepared = prepare_image(data, 256, 95)
    assert prepared.converted.endswith("color profile -> sRGB")
    shown = result(data)
    assert np.abs(np.asarray(shown, dtype=int) - (0, 255, 0)).max() <= 3
    assert "icc_profile" not in shown.info
    assert prepare_image(prepared.data, 256, 95).converted is None


def test_profiles_that_change_nothing_are_left():
    same = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = profile_with_red_and_green_swapped()
    for mode, profile in (
        ("RGB", same),
        ("RGB", b"no profile"),
        ("RGB", swapped[:200]),
        ("L", swapped),  # of other colors than the picture's
    ):
        data = encoded(smooth((20, 16), mode), "JPEG", icc_profile=profile)
        assert prepare_image(data, 256, 95)[:4] == (data, 20, 16, None)
