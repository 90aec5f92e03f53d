"""An encoded image of a shard as pixels."""

import io

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

JPEG = b"\xff\xd8\xff"
OURS = {"Gray": "GRAY", "YCbCr": "RGB", "RGB": "RGB"}  # how a JPEG stores colors: how we want them


def decode(data: bytes) -> NDArray[np.uint8]:
    """A JPEG or PNG of a shard, uint8 [H, W, C]: C is 1 if it is gray, else 3, red, green, blue."""
    if data[:3] == JPEG:
        colors = OURS.get(simplejpeg.decode_jpeg_header(data)[2])
        if colors:
            # The pixels are Pillow's, bit for bit, in half the time: no copy into its own layout.
            return simplejpeg.decode_jpeg(data, colors, strict=False)
    with Image.open(io.BytesIO(data)) as image:
        pixels = np.array(image if image.mode == "L" else image.convert("RGB"))
    return pixels if pixels.ndim == 3 else pixels[:, :, None]
