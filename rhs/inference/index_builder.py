"""Making an index of the embeddings of a data set."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np

from rhs.data.shards import ShardedImages, has_split
from rhs.errors import UserError
from rhs.inference.faiss_index import (
    check_index_settings,
    choose_kind,
    create_index,
    recall_against_exact,
)
from rhs.inference.index import FACTS, ITEMS, VECTORS
from rhs.inference.index_items import write_items
from rhs.metrics.cosine import unit_rows
from rhs.models.embedder import load_config, model_digest
from rhs.storage.digest import file_digest

if TYPE_CHECKING:
    from rhs.data.embedding_files import Embeddings


def build_index(
    out: Path,
    shards: Path,
    embedded: Mapping[str, Embeddings],
    model: Path,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """Write `index.faiss`, `items.parquet` and `index.json` into the existing folder `out`.

    Args:
        embedded: of each split of `settings.splits` that the shards have.
        model: folder of the model that made the embeddings.
        settings: as in conf/index; those left out have the values there.

    Returns:
        What `index.json` says: `kind`, `dim`, `images`, `splits` ({split: images}), `model`
        (digest), `recall_at_10` against exact search of so many sampled `queries`,
        `bytes_per_vector`, `settings`, and the `sha256` of the two other files.

    Raises:
        UserError: impossible settings; embeddings missing, not finite, or of others than these.
    """
    settings = check_index_settings(settings)
    splits = _splits(settings["splits"], shards, embedded, model)
    unit_ND = unit_rows(np.concatenate([embedded[split].embeddings for split in splits]))
    kind = choose_kind(len(unit_ND), settings)
    index = create_index(kind, unit_ND, settings)
    recall, queries = recall_against_exact(index, unit_ND, settings["seed"])
    faiss.write_index(index, str(out / VECTORS))
    write_items(out / ITEMS, shards, splits, settings["thumbnail"])
    facts = {
        "kind": kind,
        "dim": unit_ND.shape[1],
        "images": len(unit_ND),
        "splits": {split: len(embedded[split]) for split in splits},
        "model": model_digest(model),
        "recall_at_10": recall,
        "queries": queries,
        "bytes_per_vector": round((out / VECTORS).stat().st_size / len(unit_ND), 1),
        "settings": settings,
        "sha256": {name: file_digest(out / name) for name in (VECTORS, ITEMS)},
    }
    (out / FACTS).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    print(summary(facts))
    return facts


def _splits(
    wanted: Sequence[str], shards: Path, embedded: Mapping[str, Embeddings], model: Path
) -> list[str]:
    """Those of the wanted splits that the shards have; raises UserError as `build_index` says."""
    splits = [split for split in wanted if has_split(shards, split)]
    for split in splits:
        _check(split, shards, embedded, model)
    if not splits:
        raise UserError(f"index.splits is {wanted}; {shards} has no image of them.")
    return splits


def summary(facts: Mapping[str, Any]) -> str:
    """An index in one line."""
    return (
        f"index: {facts['images']:,} images, {facts['kind']}, Recall@10 against exact search "
        f"{facts['recall_at_10']:.1%} ({facts['queries']:,} queries), "
        f"{facts['bytes_per_vector']:,.0f} bytes a vector"
    )


def _check(split: str, shards: Path, embedded: Mapping[str, Embeddings], model: Path) -> None:
    """Raises UserError unless the embeddings of a split are of its images, by this model."""
    if split not in embedded:
        raise UserError(
            f"index.splits has {split!r}, whose images are not embedded: run the evaluate stage, "
            "or leave it out."
        )
    given, names = embedded[split], ShardedImages(shards, split).names
    if list(given.names) != names:
        raise UserError(
            f"The embeddings of split {split!r} are not of the images in {shards}: run the "
            "evaluate stage again."
        )
    other = given.model not in ("", model_digest(model))
    if other or given.embeddings.shape[1] != load_config(model)["dim"]:
        raise UserError(
            f"The embeddings of split {split!r} were not made by the model in {model}: run the "
            "evaluate stage again."
        )
