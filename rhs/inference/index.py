"""An index on disk, opened to search in it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rhs.errors import UserError
from rhs.inference.index_items import Item, Items
from rhs.models.embedder import model_digest
from rhs.storage.digest import file_digest

VECTORS, ITEMS, FACTS = "index.faiss", "items.parquet", "index.json"
LEFT_OUT = "left_out.txt"  # in place of an index: why there is none
AGAIN = "run the evaluate stage again"


class Hit(NamedTuple):
    """One found image."""

    similarity: float  # cosine; an estimate where the index holds vectors compressed
    item: Item


@dataclass(frozen=True)
class Index:
    """The vectors of a gallery and what they belong to.

    Attributes:
        facts: what `index.json` says; see `rhs.inference.index_builder.build_index`.
    """

    facts: dict[str, Any]
    vectors: Any  # faiss.Index
    items: Items

    def __len__(self) -> int:
        return len(self.items)

    def search(self, embeddings_QD: NDArray[np.float32], k: int) -> list[list[Hit]]:
        """The k images nearest to each of these unit vectors [Q, D], nearest first; all if fewer.

        An index that is not flat may find less than k.

        Raises:
            UserError: k below 1.
        """
        if k < 1:
            raise UserError(f"k is {k}; the number of neighbors must be at least 1.")
        asked = np.ascontiguousarray(embeddings_QD, dtype=np.float32)
        similarities_Qk, rows_Qk = self.vectors.search(asked, min(k, len(self)))
        return [
            [
                Hit(float(similarity), self.items[int(row)])
                for similarity, row in zip(*pair, strict=True)
                if row >= 0  # an approximate index may find fewer
            ]
            for pair in zip(similarities_Qk, rows_Qk, strict=True)
        ]


def open_index(folder: Path, model: Path) -> Index:
    """The index in a folder, for queries that the model in another folder embeds.

    Raises:
        UserError: there is no index, it is damaged, or another model made it.
    """
    facts, digest = read_facts(folder), model_digest(model)
    if facts["model"] != digest:
        raise UserError(
            f"The index in {folder} was made by another model ({facts['model'][:12]}) than the one "
            f"in {model} ({digest[:12]}): {AGAIN}, or give the model that made it."
        )
    for name in (VECTORS, ITEMS):
        if not (folder / name).is_file():
            raise UserError(f"{folder / name} not found: {AGAIN}.")
    for name in (VECTORS, ITEMS):
        if file_digest(folder / name) != facts["sha256"][name]:
            raise UserError(
                f"{folder / name} is damaged: its checksum is not that of {FACTS}; {AGAIN}."
            )
    import faiss

    try:
        vectors = faiss.read_index(str(folder / VECTORS))
    except RuntimeError as error:
        raise UserError(f"{folder / VECTORS} cannot be read by faiss; {AGAIN}.") from error
    items = Items(folder / ITEMS)
    if not vectors.ntotal == len(items) == facts["images"] or vectors.d != facts["dim"]:
        raise UserError(
            f"The files in {folder} do not belong together: {facts['images']:,} images of "
            f"{facts['dim']} dimensions are expected, {vectors.ntotal:,} vectors of {vectors.d} "
            f"and {len(items):,} items are there; {AGAIN}."
        )
    return Index(facts, vectors, items)


def read_facts(folder: Path) -> dict[str, Any]:
    """What `index.json` in a folder says.

    Raises:
        UserError: it is not there, or is something else.
    """
    path = folder / FACTS
    if (reason := folder / LEFT_OUT).is_file():
        raise UserError(reason.read_text(encoding="utf-8").strip())
    if not path.is_file():
        raise UserError(f"{folder} holds no index ({FACTS}): run the evaluate stage first.")
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        right = (
            isinstance(facts["model"], str)
            and all(isinstance(facts["sha256"][name], str) for name in (VECTORS, ITEMS))
            and all(isinstance(facts[name], int) for name in ("images", "dim"))
        )
    except (ValueError, LookupError, TypeError):
        right = False
    if not right:
        raise UserError(f"{path} is damaged, or describes something else; {AGAIN}.")
    return facts


def index_digest(folder: Path) -> str:
    """SHA-256 of what an index is made from: the model, the images and the settings."""
    facts = read_facts(folder)
    made_from = [facts["model"], facts["sha256"][ITEMS], facts["settings"]]
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()
