"""A saved model that takes encoded images, as the pipeline would see them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from rhs.data.decode import decode
from rhs.data.transforms import view
from rhs.errors import UserError
from rhs.memory import keep_freed_memory
from rhs.models.embedder import load_config, load_embedder
from rhs.preprocessing.prepare_image import MAX_PIXELS, Prepared, prepare_image

BATCH = 64  # images embedded at a time


class ImageEmbedder:
    """Embeds images of any format that the pipeline takes, to what the pipeline makes of them.

    Args:
        folder: of a saved model. Nothing in it is executed or unpickled.

    Raises:
        UserError: the folder does not hold a whole model of this project.
    """

    def __init__(self, folder: Path) -> None:
        keep_freed_memory()
        config = load_config(folder)
        if not isinstance(config.get("preprocess"), dict):
            raise UserError(f"{folder}/config.json does not say how images are preprocessed.")
        self.embedder = load_embedder(folder)
        self.preprocess = config["preprocess"]

    @property
    def dim(self) -> int:
        return self.embedder.dim

    def prepare(self, data: bytes, max_pixels: int = MAX_PIXELS) -> Prepared:
        """What preprocess makes of an encoded image: upright, a JPEG or PNG.

        Raises:
            BadImage: it cannot be used, or has more than `max_pixels`; the text says why.
        """
        most = min(max_pixels, self.preprocess.get("max_pixels", MAX_PIXELS))
        return prepare_image(data, **self.preprocess | {"max_pixels": most})

    def pixels(self, prepared: Prepared) -> NDArray[np.uint8]:
        """What the model sees of a prepared image, uint8 [S, S, 3]."""
        return view(decode(prepared.data), self.embedder.image_size)

    def embed(self, pixels_SS3: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Unit embeddings [N, D] of any number of images uint8 [S, S, 3], in batches."""
        parts = [np.empty((0, self.dim), np.float32)]
        for start in range(0, len(pixels_SS3), BATCH):
            pixels_BSS3 = np.stack(pixels_SS3[start : start + BATCH])
            image_B3SS = torch.from_numpy(pixels_BSS3).permute(0, 3, 1, 2)
            parts.append(self.embedder.embed(image_B3SS).numpy())
        return np.concatenate(parts)
