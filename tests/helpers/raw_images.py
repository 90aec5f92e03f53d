"""Small raw folders to preprocess."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from rhs.datasets import folder
from rhs.preprocessing import ray_preprocessing
from rhs.preprocessing.prepare_rows import prepare_rows


def noise_image(seed: int, kind: str = "PNG", mode: str = "RGB") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, kind)
    return buffer.getvalue()


def make_images(root: Path, changes: dict[str, bytes | None] | None = None) -> Path:
    """Six classes a..f of five images; `changes` replaces or, where None, leaves out files."""
    files: dict[str, bytes | None] = {
        f"{c}/{i}.png": noise_image(100 * label + i)
        for label, c in enumerate("abcdef")
        for i in range(5)
    }
    for name, data in (files | (changes or {})).items():
        if data is not None:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(data)
    return root


def make_raw(tmp_path: Path, changes: dict[str, bytes | None] | None = None) -> Path:
    folder.fetch(tmp_path / "raw", str(make_images(tmp_path / "in", changes)))
    return tmp_path / "raw"


def one_piece(plan, raw, how):
    """What Ray's tasks do, done here; to take the place of `prepare_on_ray`."""
    done = 0
    for block in ray_preprocessing._blocks(plan):
        for table in prepare_rows(block, raw, **how):
            yield ray_preprocessing._joined(plan, table, done)
            done += len(table)
