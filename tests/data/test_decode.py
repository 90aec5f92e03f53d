"""The decoder of shards: Pillow's pixels."""

import io

import numpy as np
import pytest
from PIL import Image

from rhs.data.decode import decode


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize(
    "options",
    [
        {"format": "PNG"},
        {"format": "JPEG"},
        {"format": "JPEG", "quality": 30},
        {"format": "JPEG", "subsampling": 0},
        {"format": "JPEG", "progressive": True},
    ],
)
def test_pixels_are_pillows(mode, options):
    random = np.random.default_rng(0)
    for height, width in ((1, 1), (17, 33), (64, 48)):
        pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).convert(mode).save(buffer, **options)
        made = decode(buffer.getvalue())
        with Image.open(buffer) as image:
            expected = np.asarray(image).reshape(height, width, -1)
        assert made.dtype == np.uint8
        assert np.array_equal(made, expected)
        assert made.shape[2] == (1 if mode == "L" else 3)


def test_a_palette_is_looked_up():
    buffer = io.BytesIO()
    image = Image.new("RGB", (4, 3), (200, 30, 60)).quantize(4)
    image.save(buffer, "PNG")
    assert (decode(buffer.getvalue()) == (200, 30, 60)).all()


def test_what_the_fast_decoder_refuses_is_decoded_by_pillow():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 4), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels, "CMYK").save(buffer, "JPEG")
    with Image.open(buffer) as image:
        assert np.array_equal(decode(buffer.getvalue()), np.asarray(image.convert("RGB")))
