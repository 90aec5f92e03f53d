"""A model, shards, their embeddings and an index: everything that a search needs, tiny."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tiny_project import write_shards

from rhs.data.embedding_files import Embeddings
from rhs.data.shards import ShardedImages
from rhs.inference.image_embedder import ImageEmbedder
from rhs.inference.index_builder import build_index
from rhs.models.embedder import build_embedder, model_digest, save_embedder

CONFIG = {
    "trunk": {"_target_": "rhs.models.convnet.ConvNet", "widths": [8, 16]},
    "dim": 6,
    "image_size": 16,
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
    "preprocess": {"short_side": 24, "quality": 95},
    "run": "tiny-npair-convnet-00c0ffee",
}


@dataclass(frozen=True)
class Searchable:
    """`root` is a project with models/tiny, data/shards/tiny and index/tiny."""

    root: Path
    model: Path
    shards: Path
    index: Path
    embedded: dict[str, Embeddings]


def save_model(folder: Path, seed: int, config: dict = CONFIG) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_embedder(folder, build_embedder(config, seed), config)
    return folder


def embed_split(shards: Path, split: str, model: Path) -> Embeddings:
    images, embedder = ShardedImages(shards, split), ImageEmbedder(model)
    x_ND = embedder.embed(
        [embedder.pixels(embedder.prepare(images.bytes(i))) for i in range(len(images))]
    )
    class_names = [images.class_names[label] for label in images.labels]
    return Embeddings(x_ND, images.labels, images.names, class_names, None, model_digest(model))


def make_searchable(root: Path, seed: int = 1, **settings) -> Searchable:
    """Nine training and eight test images of four classes; no image is held out."""
    model = save_model(root / "models/tiny", seed)
    shards = write_shards(root / "data/shards/tiny", train=[5, 4], test=[4, 4])
    embedded = {split: embed_split(shards, split, model) for split in ("train", "test")}
    index = root / "index/tiny"
    index.mkdir(parents=True)
    build_index(index, shards, embedded, model, settings)
    return Searchable(root, model, shards, index, embedded)


def unit(n: int, dim: int, seed: int = 0) -> np.ndarray:
    """Random unit vectors [n, dim] around n / 8 places."""
    random = np.random.default_rng(seed)
    x_ND = random.standard_normal((n // 8 + 1, dim)).repeat(8, axis=0)[:n]
    x_ND = x_ND + 0.7 * random.standard_normal((n, dim))
    return (x_ND / np.linalg.norm(x_ND, axis=1, keepdims=True)).astype(np.float32)
