"""Seconds from an image to its nearest images, drawn, in a large gallery.

    python -m benchmarks.search

The gallery is made up: embeddings of 512 dimensions around 11,316 places (the size of Stanford
Online Products) and small pictures, from which `build_index` makes an index of each kind. The model
is EfficientNet-Lite0 with its pretrained weights, the query a JPEG of 500 x 375 pixels. Each search
is a process of its own, whose start (Python and imports) is told apart from what comes after. A
first search of each kind, which also brings its files into the system's cache, is not counted.
"""

import argparse
import io
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from datetime import date
from pathlib import Path

import numpy as np
import psutil

PHASES = ("index opened", "model loaded", "image embedded", "searched", "drawn")
PICTURES = 1000  # different ones; the gallery repeats them
DIM, CLASSES = 512, 11_316
QUERY = (500, 375)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--images", type=int, default=60_000)
    arguments.add_argument("--kinds", default="flat,hnsw,ivf_pq")
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--out", type=Path, default=Path("benchmarks/results/search.md"))
    arguments.add_argument("--one", nargs=2, type=Path, metavar=("FOLDER", "INDEX"))
    options = arguments.parse_args()
    if options.one:
        print(json.dumps(one(*options.one)))
        return
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(Path(folder), options)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(table(rows, options))
    print(options.out.read_text())


def one(folder: Path, index_folder: Path) -> dict[str, float]:
    """One search, as `rhs search` does it: seconds of each phase, and of the start before."""
    import faiss  # noqa: F401

    from rhs.inference.contact_sheet import write_sheet
    from rhs.inference.image_embedder import ImageEmbedder
    from rhs.inference.index import open_index
    from rhs.models.trunks import _import_timm

    _import_timm()
    start = time.perf_counter()
    marks = {"start": time.time() - psutil.Process().create_time()}

    def mark(phase: str) -> None:
        nonlocal start
        now = time.perf_counter()
        marks[phase], start = now - start, now

    index = open_index(index_folder, folder / "model")
    mark("index opened")
    model = ImageEmbedder(folder / "model")
    mark("model loaded")
    query = model.prepare((folder / "query.jpg").read_bytes())
    embedding_1D = model.embed([model.pixels(query)])
    mark("image embedded")
    found = index.search(embedding_1D, 5)
    mark("searched")
    write_sheet(folder / "sheet.html", [("query.jpg", query.data)], found, "")
    mark("drawn")
    assert len(found[0]) == 5
    return marks


def measure(folder: Path, options: argparse.Namespace) -> dict[str, dict]:
    """{kind: facts of its index, `built` in seconds, and the median seconds of each phase}."""
    from rhs.inference.index_builder import build_index

    embedded = make_gallery(folder, options.images)
    rows: dict[str, dict] = {}
    for kind in options.kinds.split(","):
        index = folder / kind
        index.mkdir()
        begin = time.perf_counter()
        settings = {"kind": kind, "splits": ["test"]}
        facts = build_index(index, folder / "shards", embedded, folder / "model", settings)
        rows[kind] = {**facts, "built": time.perf_counter() - begin}
    command = [sys.executable, "-m", "benchmarks.search", "--one", str(folder)]
    seen: dict[str, list[dict]] = {kind: [] for kind in rows}
    for turn in range(options.rounds + 1):
        for kind, marks in seen.items():
            done = subprocess.run(
                [*command, str(folder / kind)], capture_output=True, text=True, check=True
            )
            if turn:
                marks.append(json.loads(done.stdout))
    for kind, marks in seen.items():
        for phase in ("start", *PHASES):
            rows[kind][phase] = statistics.median(each[phase] for each in marks)
        rows[kind]["whole"] = statistics.median(sum(e[p] for p in PHASES) for e in marks)
    return rows


def make_gallery(folder: Path, count: int) -> dict:
    """`model`, `query.jpg` and `shards` in the folder; returns the embeddings of the shards."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from rhs.config.compose import compose
    from rhs.data.embedding_files import Embeddings
    from rhs.data.shards import SHARD_SCHEMA
    from rhs.models.embedder import build_embedder, save_embedder

    config = asdict(compose(["model=efficientnet_lite0", f"model.dim={DIM}"]).model)
    config["preprocess"] = {"short_side": 256, "quality": 95}
    (folder / "model").mkdir()
    save_embedder(folder / "model", build_embedder(config), config)
    random = np.random.default_rng(0)
    (folder / "query.jpg").write_bytes(picture(random, QUERY))
    pictures = [picture(random, (128, 96)) for _ in range(PICTURES)]
    labels_N = np.sort(random.integers(0, CLASSES, count))
    class_names = [f"class {label:05d}" for label in labels_N]
    names = [f"{name}/{i}.jpg" for i, name in enumerate(class_names)]
    images = [pictures[i % PICTURES] for i in range(count)]
    sides = [[side] * count for side in (128, 96)]
    nothing = [None] * count
    values = [
        images,
        labels_N,
        class_names,
        names,
        [""] * count,
        *sides,
        ["test"] * count,
        nothing,
        nothing,
    ]
    columns = [
        pa.array(column, kind) for column, kind in zip(values, SHARD_SCHEMA.types, strict=True)
    ]
    (folder / "shards").mkdir()
    pq.write_table(
        pa.Table.from_arrays(columns, schema=SHARD_SCHEMA),
        folder / "shards/test-00000.parquet",
        compression="none",
        use_dictionary=False,
    )
    manifest = {
        "splits": {"test": {"images": count}},
        "shards": [{"file": "test-00000.parquet", "rows": count}],
        "class_names": [f"class {label:05d}" for label in range(CLASSES)],
    }
    (folder / "shards/manifest.json").write_text(json.dumps(manifest))
    places = random.standard_normal((CLASSES, DIM), dtype=np.float32)
    x_ND = places[labels_N] + random.standard_normal((count, DIM), dtype=np.float32)
    # As of trained networks: few directions hold most of the variance, and none is an axis.
    x_ND /= np.sqrt(1 + np.arange(DIM, dtype=np.float32))
    x_ND @= random.standard_normal((DIM, DIM), dtype=np.float32)
    x_ND /= np.linalg.norm(x_ND, axis=1, keepdims=True)
    return {"test": Embeddings(x_ND, labels_N, names, class_names, None)}


def picture(random: np.random.Generator, size: tuple[int, int]) -> bytes:
    """A JPEG of soft blotches."""
    from PIL import Image

    coarse = Image.fromarray(random.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    coarse.resize(size, Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def table(rows: dict[str, dict], options: argparse.Namespace) -> str:
    """The kinds of index, and the time of a search in each, as Markdown."""
    from rhs.tracking.hardware import describe_hardware

    lines = [
        f"Command: `{' '.join(['python -m benchmarks.search', *sys.argv[1:]])}`",
        f"Machine: {describe_hardware()}. Date: {date.today()}. "
        f"Medians of {options.rounds} processes with one query each.",
        f"A made-up gallery of {options.images:,} images, D = {DIM}; EfficientNet-Lite0.",
        "",
        "| index | Recall@10 against exact | bytes a vector | built in |",
        "|---|---|---|---|",
    ]
    for kind, row in rows.items():
        lines.append(
            f"| {kind} | {row['recall_at_10']:.1%} | {row['bytes_per_vector']:,.0f} | "
            f"{row['built']:.0f} s |"
        )
    heads = ("start of the process", *PHASES, "all but the start")
    lines += ["", "Seconds:", "", f"| index | {' | '.join(heads)} |", "|---|" + "---|" * len(heads)]
    for kind, row in rows.items():
        cells = (row[name] for name in ("start", *PHASES, "whole"))
        lines.append(f"| {kind} | " + " | ".join(f"{value:.3f}" for value in cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
