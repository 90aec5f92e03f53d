"""Raw folders of photographs as large as cameras make them: Cars196's, enlarged."""

import hashlib
import io
import json
import shutil
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from tqdm import tqdm

from rhs.data.shards import SHARD_SCHEMA
from rhs.datasets.raw_folder import ImageFile, write_raw

CARS = Path("../shared/datasets/cars196-half.tar")
QUALITY = 90  # of the JPEGs made
CLASSES = 200
SHORT_SIDE, SHARD_QUALITY = 256, 95  # of what preprocess makes by default
LARGE, HUGE = (4000, 3000), (10_000, 10_000)  # HUGE is all that preprocess.max_pixels allows


def cars() -> Iterator[bytes]:
    """The encoded photographs of Cars196, again and again."""
    with tarfile.open(CARS) as tar:
        members = [member for member in tar if member.isfile()]
        while True:
            for member in members:
                stream = tar.extractfile(member)
                assert stream is not None
                yield stream.read()


def enlarged(data: bytes, size: tuple[int, int], mode: str, kind: str, **how) -> bytes:
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(data)) as image:
        image.convert(mode).resize(size, Image.Resampling.BICUBIC).save(buffer, kind, **how)
    return buffer.getvalue()


def photographs(folder: Path, count: int, side: int) -> Path:
    """A raw folder of `count` JPEGs of 4/3 `side` x `side` pixels, each a different one."""
    size = (side * 4 // 3, side)
    need(folder, count * size[0] * size[1] // 2)
    files, small = [], cars()
    for i in tqdm(range(count), "photographs", disable=None):
        data = enlarged(next(small), size, "RGB", "JPEG", quality=QUALITY)
        files.append(written(folder / f"{i}.jpg", data))
    return indexed(folder, files)


def large_images(folder: Path, count: int, large_every: int, huge_every: int) -> tuple[Path, str]:
    """A raw folder whose index names a few files many times, and what they are, in words."""
    need(folder, 2**31)
    small = cars()
    tiny = [written(folder / f"{i}.jpg", next(small)) for i in range(1000)]
    large = [
        written(
            folder / f"large{i}.jpg", enlarged(next(small), LARGE, "RGB", "JPEG", quality=QUALITY)
        )
        for i in range(20)
    ]
    huge = [
        written(folder / "huge.png", enlarged(next(small), HUGE, "RGBA", "PNG", compress_level=1)),
        written(folder / "huge.webp", enlarged(next(small), HUGE, "RGB", "WEBP", method=0)),
        written(folder / "huge.jp2", enlarged(next(small), HUGE, "RGB", "JPEG2000")),
    ]
    files, counts = [], [0, 0, 0]
    for i in range(count):
        kind = 2 if i % huge_every == 1 else int(i % large_every == 0)
        counts[kind] += 1
        of_kind = (tiny, large, huge)[kind]
        files.append(of_kind[counts[kind] % len(of_kind)])
    words = (
        f"{counts[0]:,} JPEGs with a shorter side of 128 pixels, {counts[1]:,} JPEGs of 12 "
        f"megapixels, {counts[2]:,} of 100 megapixels (in turn PNG with alpha, WebP, JPEG 2000)"
    )
    return indexed(folder, files), words


def need(folder: Path, size: int) -> None:
    if (free := shutil.disk_usage(folder).free) < 2 * size:
        sys.exit(f"{folder} has {free / 2**30:.1f} GiB free; {2 * size / 2**30:.1f} are needed.")


def written(path: Path, data: bytes) -> tuple[Path, str]:
    path.write_bytes(data)
    return path, hashlib.sha256(data).hexdigest()


def indexed(folder: Path, files: list[tuple[Path, str]]) -> Path:
    """The raw folder of the files, in CLASSES classes that keep them in this order."""
    raw = folder / "raw"
    raw.mkdir()
    images = []
    for i, (file, sha256) in enumerate(files):
        group = f"class{i * CLASSES // len(files):03d}"
        name = f"{group}/{i:06d}{file.suffix}"
        images.append(ImageFile(name, group, str(file), 0, file.stat().st_size, sha256))
    write_raw(raw, "benchmark", str(folder), images)
    return raw


def shards_and_folders(scratch: Path, count: int, per_class: int) -> None:
    """Photographs as preprocess leaves them, as one shard and as a folder for each class."""
    rows, source = [], cars()
    for i in tqdm(range(count), "photographs", disable=None):
        with Image.open(io.BytesIO(next(source))) as image:
            scale = SHORT_SIDE / min(image.size)
            size = (round(image.width * scale), round(image.height * scale))
            buffer = io.BytesIO()
            image.convert("RGB").resize(size).save(buffer, "JPEG", quality=SHARD_QUALITY)
        label, data = i // per_class, buffer.getvalue()
        file = scratch / "folder" / f"{label:05d}" / f"{i}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        fields = (data, label, f"{label:05d}", file.name, "", *size, "train", None, None)
        rows.append(dict(zip(SHARD_SCHEMA.names, fields, strict=True)))
    shards = scratch / "shards"
    shards.mkdir()
    table = pa.Table.from_pylist(rows, schema=SHARD_SCHEMA)
    pq.write_table(table, shards / "train-00000.parquet", compression="none", use_dictionary=False)
    names = [f"{label:05d}" for label in range(-(-count // per_class))]
    manifest = {
        "dataset": "photographs",
        "digest": str(time.time_ns()),
        "class_names": names,
        "splits": {"train": {"images": count}},
        "shards": [{"file": "train-00000.parquet", "rows": count}],
    }
    (shards / "manifest.json").write_text(json.dumps(manifest))
