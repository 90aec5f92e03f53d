"""Made-up photographs, the ways they get copied, and shards of them."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps
from tiny_project import write_shard

from rhs.data.shards import SHARD_SCHEMA


def photo(seed: int, size: tuple[int, int] = (120, 90)) -> Image.Image:
    """Soft blotches with some hard-edged things in front; another seed, another scene."""
    random = np.random.default_rng(seed)
    image = Image.fromarray(random.integers(30, 226, (5, 6, 3), dtype=np.uint8))
    image = image.resize(size, Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(6):
        x, y = random.uniform(0, 0.9, 2) * size
        width, height = random.uniform(0.05, 0.3, 2) * size
        color = tuple(int(c) for c in random.integers(0, 256, 3))
        draw.ellipse((x, y, x + width, y + height), fill=color)
    return image


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def cropped(image: Image.Image, share: float = 0.03) -> Image.Image:
    """Without a strip of each side, the left one twice as wide."""
    width, height = image.size
    x, y = share * width, share * height
    return image.crop((round(2 * x), round(y), round(width - x), round(height - y)))


EDITS: dict[str, Callable[[Image.Image], bytes]] = {
    "encoded again": lambda image: encoded(image, "JPEG", quality=40),
    "smaller": lambda image: encoded(image.resize((70, 53), Image.Resampling.LANCZOS)),
    "stretched": lambda image: encoded(image.resize((150, 90), Image.Resampling.BICUBIC)),
    "lighter": lambda image: encoded(image.point(lambda value: value * 0.7 + 70)),
    "gray": lambda image: encoded(image.convert("L")),
    "cropped": lambda image: encoded(cropped(image), "JPEG", quality=80),
}


def mirrored(image: Image.Image) -> bytes:
    return encoded(ImageOps.mirror(image), "JPEG", quality=80)


def photo_shards(folder: Path, rows: list[tuple[str, str, bytes]], **manifest) -> Path:
    """Shards of (split, class name, encoded image), two rows to a file; names count from 0.

    Args:
        rows: in the order of the splits: train, val, test (or query and gallery).
        manifest: fields that are not what preprocess would write.
    """
    folder.mkdir(parents=True)
    class_names = sorted({class_name for _, class_name, _ in rows})
    groups: dict[str, list[dict]] = {"train": [], "val": [], "test": []}
    for number, (split, class_name, data) in enumerate(rows):
        with Image.open(io.BytesIO(data)) as image:
            width, height = image.size
        values = (
            data,
            class_names.index(class_name),
            class_name,
            f"{class_name}/{number}",
            hashlib.sha256(data).hexdigest(),
            width,
            height,
            split,
            None,
            None,
        )
        row = dict(zip(SHARD_SCHEMA.names, values, strict=True))
        groups[split if split in groups else "test"].append(row)
    shards, splits = [], {}
    for group, members in groups.items():
        sizes = [sum(row["class_name"] == name for row in members) for name in class_names]
        splits[group] = {
            "classes": sum(size > 0 for size in sizes),
            "images": len(members),
            "singletons": sizes.count(1),
        }
        for start in range(0, len(members), 2):
            file = f"{group}-{start // 2:05d}.parquet"
            write_shard(folder / file, members[start : start + 2])
            shards.append({"file": file, "rows": len(members[start : start + 2]), "sha256": ""})
    whole = {
        "dataset": "photos",
        "digest": "0123456789abcdef",
        "classes": len(class_names),
        "images": len(rows),
        "splits": splits,
        "class_names": class_names,
        "shards": shards,
        "singletons": [],
        "refused": [],
        "converted": {},
        "resized": 0,
        "notes": {},
        "warnings": [],
    }
    (folder / "manifest.json").write_text(json.dumps(whole | manifest), encoding="utf-8")
    return folder
