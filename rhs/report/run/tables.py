"""Numbers and names made ready for the pages' tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rhs.evaluation.intervals import interval
from rhs.report.run.curves import series

_ROW_TITLES = {
    "test": ("Test", "unseen classes"),
    "val": ("Validation", "held-out training classes"),
    "untrained": ("Untrained", "same test images"),
}


_TITLES = {
    "precision@1": "Precision@1",
    "r_precision": "R-precision",
    "map@r": "MAP@R",
    "nmi": "NMI",
}


@dataclass(frozen=True)
class Figure:
    """One headline number: what it is, its value as text, and a line that puts it in context."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Cell:
    """A score and its 95 % interval as text; blank where there is none."""

    text: str = ""
    interval: str = ""


@dataclass(frozen=True)
class ScoreTable:
    """Columns of scores; rows of (title, note, cells)."""

    columns: list[str]
    rows: list[tuple[str, str, list[Cell]]]

    @property
    def has_intervals(self) -> bool:
        return any(cell.interval for _, _, cells in self.rows for cell in cells)


def percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def headline(
    metrics: Mapping, manifest: Mapping, history: Sequence[Mapping], labels_N: np.ndarray
) -> list[Figure]:
    """The few numbers a reader came for; a number that was not measured is left out."""
    figures = []
    scores = {row: group.get("recall@1") for row, group in _score_rows(metrics)}
    test, untrained, val = (scores.get(name) for name in ("test", "untrained", "val"))
    if test is not None:
        gain = "" if untrained is None else f"{100 * (test - untrained):+.1f} over untrained"
        figures.append(Figure("Recall@1, unseen classes", percent(test), gain))
    if val is not None:
        figures.append(Figure("Recall@1, validation", percent(val), "held-out training classes"))
    if untrained is not None:
        figures.append(Figure("Recall@1, untrained", percent(untrained), "same test images"))
    classes = len(np.unique(labels_N))
    figures.append(Figure("Test images", f"{len(labels_N):,}", f"{classes:,} classes"))
    epochs, losses = series(history, "loss")
    if epochs:
        figures.append(Figure("Epochs", f"{len(set(epochs))}", f"final loss {losses[-1]:.4g}"))
    return figures


def recall_table(metrics: Mapping) -> ScoreTable:
    """Every score of every split: Recall@K by K, then whatever else was measured."""
    rows = _score_rows(metrics)
    names = list(
        dict.fromkeys(
            name for _, g in rows for name, value in g.items() if not isinstance(value, Mapping)
        )
    )
    recalls = [name for name in names if name.startswith("recall@")]
    recalls.sort(key=lambda name: int(name.split("@")[1]))
    others = [name for name in _TITLES if name in names]
    columns = recalls + others + [n for n in names if n not in recalls and n not in others]
    return ScoreTable(
        [_title(name) for name in columns],
        [
            (
                *_ROW_TITLES.get(row, (row, "")),
                [_cell(name, group) for name in columns],
            )
            for row, group in rows
        ],
    )


def _score_rows(metrics: Mapping) -> list[tuple[str, Mapping]]:
    groups = {name: group for name, group in metrics.items() if isinstance(group, Mapping)}
    first = [name for name in _ROW_TITLES if name in groups]
    return [(name, groups[name]) for name in first + [n for n in groups if n not in first]]


def _title(name: str) -> str:
    return _TITLES.get(name, name.replace("recall@", "Recall@").replace("_", " "))


def _cell(name: str, group: Mapping) -> Cell:
    value = group.get(name)
    if value is None:
        return Cell()
    if name.startswith("recall@") or name in _TITLES:
        ends = interval(group, name)
        low_high = f"{100 * ends[0]:.1f}–{100 * ends[1]:.1f}" if ends else ""
        return Cell(percent(float(value)), low_high)
    if isinstance(value, int) and not isinstance(value, bool):
        return Cell(f"{value:,}")
    return Cell(f"{value:.4g}" if isinstance(value, float) else str(value))


def data_facts(manifest: Mapping) -> list[tuple[str, str]]:
    """(what, value) lines about the data beyond its splits; counts of zero are left out."""
    facts = []
    singletons = manifest.get("singletons", [])
    if singletons:
        facts.append(("classes with one image", f"{len(singletons):,}, gallery only"))
    facts += [
        (f"converted {change}", f"{count:,} images")
        for change, count in manifest.get("converted", {}).items()
    ]
    for key, what in (
        ("resized", "resized"),
        ("duplicates_within_class", "duplicates within a class"),
    ):
        if manifest.get(key):
            facts.append((what, f"{manifest[key]:,} images"))
    for key, value in manifest.get("notes", {}).items():
        text = f"{value:,}" if isinstance(value, int) else _as_text(value)
        facts.append((str(key).replace("_", " "), text))
    return facts


def named_images(manifest: Mapping, most: int = 50) -> dict[str, Any]:
    """The images that the manifest names, at most so many of a kind, and how many are left."""
    lists = {kind: list(manifest.get(kind, [])) for kind in ("refused", "odd")}
    return {kind: images[:most] for kind, images in lists.items()} | {
        f"{kind}_left": max(0, len(images) - most) for kind, images in lists.items()
    }


def flatten(params: Mapping, prefix: str = "") -> list[tuple[str, str]]:
    """Nested parameters as (dotted name, text), in their own order."""
    rows = []
    for key, value in params.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            rows += flatten(value, f"{name}.")
        else:
            rows.append((name, _as_text(value)))
    return rows


def _as_text(value: object, most: int = 20) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_as_text(inner)}" for key, inner in value.items())
    if isinstance(value, (list, tuple)):
        shown = ", ".join(str(item) for item in value[:most])
        return shown + (f", ... ({len(value):,} in all)" if len(value) > most else "")
    return "none" if value is None else str(value)
