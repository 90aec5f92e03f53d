"""Assemble the pages of the report from what the other stages left behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rhs.errors import UserError
from rhs.evaluation.intervals import interval
from rhs.metrics.retrieval_results import RetrievalResults, search
from rhs.report.embedding_map import Projection, draw_map, project
from rhs.report.explorer.page import write_explorer
from rhs.report.explorer.page_data import NEIGHBORS, build_page_data, choose_shown
from rhs.report.pictures import Images, Picture
from rhs.report.run import curves
from rhs.report.run.collapse import collapse_section
from rhs.report.run.gallery import Retrieved, random_queries, worst_failures
from rhs.report.run.tables import data_facts, flatten, headline, named_images, recall_table
from rhs.report.templating import render

GALLERY_QUERIES = 12
GALLERY_NEIGHBORS = 5
FAILURES_SHOWN = 40
EXPLORER_IMAGES = 5000


@dataclass(frozen=True, kw_only=True)
class Results:
    """What the other stages left behind.

    Attributes:
        title: heading of the pages.
        params: all parameters, nested.
        manifest: ``manifest.json`` of the shards.
        history: one mapping per epoch (``epoch``, ``loss``, ``val_recall@1``, ...); cells may be
            numbers, their text, blank or None.
        metrics: ``metrics.json``: split name -> scores.
        shards: split name -> images, for at least every name in ``splits``.
        splits: split name -> (embeddings [N, D], labels [N]), row i being image i of the shards.
            "test" is needed: the gallery, the map, the failures and the explorer show it.
        seed: draws the queries and the map.
        collapse: the study of class collapse on this data set, as `python -m benchmarks.collapse`
            wrote it (rhs.report.run.collapse lists its keys); None: the page has no such section.
        run: the run's name.
        select: which epoch the model is of, as `train.select` says: "last", "best", "best_map@r".
    """

    title: str
    params: Mapping
    manifest: Mapping
    history: Sequence[Mapping]
    metrics: Mapping
    shards: Mapping[str, Images]
    splits: Mapping[str, tuple[np.ndarray, np.ndarray]]
    seed: int
    collapse: Mapping | None = None
    run: str = ""
    select: str = "last"


def build_report(out: Path, results: Results, *, explorer_images: int = EXPLORER_IMAGES) -> None:
    """Write ``index.html``, ``failures.html`` and ``explorer.html`` into the folder ``out``.

    It is made if absent. The pages are a pure function of the arguments: no date, no host name.

    Args:
        explorer_images: how many images at most the explorer shows as queries; of more, a sample.

    Raises:
        UserError: no test split, or embeddings that do not belong to the shards.
    """
    _check(results.shards, results.splits)
    images, (embeddings_ND, labels_N) = results.shards["test"], results.splits["test"]
    found = search(embeddings_ND, labels_N, images.queries, max(NEIGHBORS, GALLERY_NEIGHBORS))
    failures, failures_in_all = worst_failures(images, found, count=FAILURES_SHOWN)
    gallery = random_queries(
        images, found, count=GALLERY_QUERIES, k=GALLERY_NEIGHBORS, seed=results.seed
    )
    shown_S = choose_shown(labels_N, explorer_images)
    placed = project(embeddings_ND, shown_S, seed=results.seed)
    shared = {
        "title": results.title,
        "subtitle": _subtitle(results.params, results.manifest),
        "failures_in_all": failures_in_all,
        "tile_ratio": _tile_ratio([r.query for r in gallery] + [f.query for f in failures]),
    }
    index = _index(results, gallery, placed)
    out.mkdir(parents=True, exist_ok=True)
    for name, values in (("index.html", index), ("failures.html", {"failures": failures})):
        (out / name).write_text(render(name, **shared, **values), encoding="utf-8")
    data = build_page_data(images, found, shown_S, placed, _about(results, found))
    write_explorer(out / "explorer.html", data, shared)


def _index(
    results: Results, gallery: Sequence[Retrieved], placed: Projection | None
) -> dict[str, Any]:
    """What the index page shows."""
    history, manifest = results.history, results.manifest
    images, (embeddings_ND, labels_N) = results.shards["test"], results.splits["test"]
    return {
        "headline": headline(results.metrics, manifest, history, labels_N),
        "recall": recall_table(results.metrics),
        "loss_curve": curves.loss_curve(history),
        "recall_curve": curves.recall_curve(history),
        "best_recall": curves.best_recall(history, results.select),
        "diagnostics": curves.diagnostics(history),
        "collapse": collapse_section(results.collapse),
        "gallery": gallery,
        "map": draw_map(images, embeddings_ND, labels_N, seed=results.seed, known=placed),
        "manifest": manifest,
        "facts": data_facts(manifest),
        **named_images(manifest),
        "parameters": flatten(results.params),
    }


def _about(results: Results, found: RetrievalResults) -> dict[str, Any]:
    """Facts of the run that the explorer prints, and compares with another run's."""
    scores = results.metrics.get("test", {})
    return {
        "title": results.title,
        "run": results.run,
        "facts": _subtitle(results.params, results.manifest),
        "recall": found.recall,
        "interval": list(interval(scores, "recall@1") or ()),
        "images": len(found.labels_N),
        "queries": len(found.asking_Q),
        "answerable": int(found.answerable_Q.sum()),
        "classes": len(np.unique(found.labels_N)),
    }


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
