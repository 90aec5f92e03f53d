"""A data set and parameters small enough to train in a second, and the project's configuration."""

import hashlib
import io
import json
from collections.abc import Iterable
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from rhs.config.compose import compose
from rhs.config.schema import read_params
from rhs.config.settings import ClusterConfig, Params, TrainConfig
from rhs.data.shards import SHARD_SCHEMA

ROOT = Path(__file__).parents[2]
METHODS = sorted(path.stem for path in (ROOT / "conf/method").glob("*.yaml"))
SIDE = 16  # pixels
SMALL = (
    "tracking=none",
    "model=convnet",
    f"model.image_size={SIDE}",
    "model.dim=16",
    "model.trunk.widths=[8,16]",
    "train.classes=4",
    "train.per_class=2",
    "train.epochs=3",
    "train.warmup=2",
    "train.lr=0.003",
)


def composed(*overrides: str) -> Params:
    """The parameters of these Hydra overrides, from whichever folder the tests run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        return compose(list(overrides))


@lru_cache
def small_model_config() -> dict:
    """What `rhs.models.embedder.build_embedder` makes a model for 16-pixel images from."""
    return asdict(small_params().model)


@lru_cache
def small_params(*overrides: str) -> Params:
    return composed(*SMALL, *overrides)


def changed(params: Params, **groups: dict) -> Params:
    """A copy with some other values, each checked: changed(params, train={"lr": 0.1})."""
    tree = asdict(params)
    return read_params(tree | {group: tree[group] | groups[group] for group in groups})


def cluster_config(**values) -> ClusterConfig:
    return replace(small_params().cluster, **values)


def train_config(**values) -> TrainConfig:
    return replace(small_params().train, **values)


@lru_cache
def method_config(name: str) -> dict:
    """What `rhs.config.instantiate.build` makes the objective from."""
    from rhs.methods.objective import NOT_OURS

    config = composed(f"method={name}").method
    return {key: value for key, value in config.items() if key not in NOT_OURS}


def prepared(
    method: str | dict,
    classes: int,
    dim: int,
    dtype=None,
    samples: Iterable | None = None,
):
    """The objective of a method file, or of a configuration, ready for its first batch.

    Args:
        dtype: torch.float64 unless given.
        samples: batches (embeddings, labels) of this rank's share of the training set, for what
            is computed from all of it; without, three random ones of each class on every rank.
    """
    import torch

    from rhs.methods.objective import build_objective

    dtype = dtype or torch.float64
    random = torch.Generator().manual_seed(7)
    objective = build_objective(method_config(method) if isinstance(method, str) else method)
    more = {}
    if objective.loss.continuous:
        more["values_CL"] = torch.rand(classes, 2, generator=random, dtype=torch.float64)
    torch.manual_seed(0)  # of what is learned
    objective.prepare(classes, dim, **more)
    objective.to(dtype)
    if objective.needs_refresh(0):
        labels = torch.arange(classes).repeat(3)
        x = torch.randn(len(labels), dim, generator=random, dtype=torch.float64).to(dtype)
        objective.refresh(0, [(x, labels)] if samples is None else samples)
    return objective


def class_image(label: int, number: int, side: int = SIDE) -> np.ndarray:
    """uint8 [side, side, 3]: a coarse pattern of the class plus noise of the image."""
    coarse = np.random.default_rng(label).integers(40, 216, (4, 4, 3))
    pattern = coarse.repeat(side // 4, axis=0).repeat(side // 4, axis=1)
    noise = np.random.default_rng([label, number]).integers(-40, 40, pattern.shape)
    return (pattern + noise).clip(0, 255).astype(np.uint8)


def png(pixels_HW3: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels_HW3).save(buffer, "PNG")
    return buffer.getvalue()


def write_shard(path: Path, rows: list[dict]) -> None:
    """As preprocess does: images uncompressed and plain."""
    table = pa.Table.from_pylist(rows, schema=SHARD_SCHEMA)
    pq.write_table(table, path, compression="none", use_dictionary=False)


def write_shards(folder: Path, **splits: list[int]) -> Path:
    """Shards of random patterns: for each split the number of images of each of its classes."""
    folder.mkdir(parents=True)
    names, shards, counts = [], [], {}
    for split in ("train", "val", "test"):
        sizes = splits.get(split, [])
        first = len(names)
        names += [f"class{first + i:03d}" for i in range(len(sizes))]
        rows = []
        for label in range(first, len(names)):
            for number in range(sizes[label - first]):
                data = png(class_image(label, number))
                values = (
                    data,
                    label,
                    names[label],
                    f"{names[label]}/{number}.png",
                    hashlib.sha256(data).hexdigest(),
                    SIDE,
                    SIDE,
                    split,
                    None,
                    None,
                )
                rows.append(dict(zip(SHARD_SCHEMA.names, values, strict=True)))
        counts[split] = {"classes": len(sizes), "images": sum(sizes), "singletons": sizes.count(1)}
        if rows:
            file = f"{split}-00000.parquet"
            write_shard(folder / file, rows)
            digest = hashlib.sha256((folder / file).read_bytes()).hexdigest()
            shards.append({"file": file, "rows": len(rows), "sha256": digest})
    digest = hashlib.sha256(json.dumps(shards).encode()).hexdigest()
    manifest = {
        "dataset": "tiny",
        "digest": digest,
        "class_names": names,
        "splits": counts,
        "shards": shards,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder
