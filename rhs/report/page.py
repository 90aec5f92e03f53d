"""Assemble the pages of the report from what the other stages left behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from rhs.errors import UserError
from rhs.report import curves
from rhs.report.collapse import collapse_section
from rhs.report.gallery import Images, Picture, random_queries, worst_failures
from rhs.report.map2d import draw_map
from rhs.report.tables import data_facts, flatten, headline, named_images, recall_table
from rhs.report.templating import render

GALLERY_QUERIES = 12
GALLERY_NEIGHBORS = 5
FAILURES_SHOWN = 40


def build_report(
    *,
    out: Path,
    title: str,
    params: Mapping,
    manifest: Mapping,
    history: Sequence[Mapping],
    metrics: Mapping,
    shards: Mapping[str, Images],
    splits: Mapping[str, tuple[np.ndarray, np.ndarray]],
    seed: int,
    collapse: Mapping | None = None,
) -> None:
    """Write ``index.html`` and ``failures.html`` into the folder ``out``, which is made if absent.

    The pages are a pure function of the arguments: no date, no host name.

    Args:
        title: heading of the pages.
        params: all parameters, nested.
        manifest: ``manifest.json`` of the shards.
        history: one mapping per epoch (``epoch``, ``loss``, ``val_recall@1``, ...); cells may be
            numbers, their text, blank or None.
        metrics: ``metrics.json``: split name -> scores.
        shards: split name -> images, for at least every name in ``splits``.
        splits: split name -> (embeddings [N, D], labels [N]), row i being image i of the shards.
            "test" is needed: the gallery, the map and the failures show it.
        seed: draws the queries and the map.
        collapse: the study of class collapse on this data set, as `python -m benchmarks.collapse`
            wrote it (rhs.report.collapse lists its keys); None: the page has no such section.

    Raises:
        UserError: no test split, or embeddings that do not belong to the shards.
    """
    _check(shards, splits)
    images, (embeddings_ND, labels_N) = shards["test"], splits["test"]
    failures, failures_in_all = worst_failures(
        images, embeddings_ND, labels_N, count=FAILURES_SHOWN
    )
    gallery = random_queries(
        images, embeddings_ND, labels_N, count=GALLERY_QUERIES, k=GALLERY_NEIGHBORS, seed=seed
    )
    shared = {
        "title": title,
        "subtitle": _subtitle(params, manifest),
        "failures_in_all": failures_in_all,
        "tile_ratio": _tile_ratio([r.query for r in gallery] + [f.query for f in failures]),
    }
    index = {
        "headline": headline(metrics, manifest, history, labels_N),
        "recall": recall_table(metrics),
        "loss_curve": curves.loss_curve(history),
        "recall_curve": curves.recall_curve(history),
        "best_recall": curves.best_recall(history),
        "diagnostics": curves.diagnostics(history),
        "collapse": collapse_section(collapse),
        "gallery": gallery,
        "map": draw_map(images, embeddings_ND, labels_N, seed=seed),
        "manifest": manifest,
        "facts": data_facts(manifest),
        **named_images(manifest),
        "parameters": flatten(params),
    }
    out.mkdir(parents=True, exist_ok=True)
    for name, values in (("index.html", index), ("failures.html", {"failures": failures})):
        (out / name).write_text(render(name, **shared, **values), encoding="utf-8")


def _check(
    shards: Mapping[str, Images], splits: Mapping[str, tuple[np.ndarray, np.ndarray]]
) -> None:
    if "test" not in splits:
        raise UserError(
            f"The report needs the embeddings of the test split; there are {sorted(splits)}."
        )
    for split, (embeddings_ND, labels_N) in splits.items():
        stored_N = np.asarray(shards[split].labels)
        if len(embeddings_ND) != len(stored_N) or not np.array_equal(labels_N, stored_N):
            raise UserError(
                f"The embeddings of split {split} ({len(embeddings_ND):,} rows) do not belong to "
                f"its shards ({len(stored_N):,} images); run the evaluate stage again."
            )


def _subtitle(params: Mapping, manifest: Mapping) -> list[tuple[str, str]]:
    """(what, value) pairs for the line under the title, without those that are not known."""
    pairs = [("data set", manifest.get("dataset"))]
    for group in ("model", "method"):
        chosen = params.get(group)
        pairs.append((group, chosen.get("name") if isinstance(chosen, Mapping) else chosen))
    pairs += [("seed", params.get("seed")), ("data digest", str(manifest.get("digest", ""))[:12])]
    return [(what, str(value)) for what, value in pairs if value not in (None, "")]


def _tile_ratio(pictures: Sequence[Picture]) -> float:
    """Width over height of the tiles: the images' median, so that cars are not cut to squares."""
    if not pictures:
        return 1.0
    return round(float(np.clip(np.median([p.width / p.height for p in pictures]), 0.75, 1.5)), 3)
