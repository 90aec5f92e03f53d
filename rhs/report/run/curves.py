"""Curves of a run by epoch: loss, recall, and the diagnostics of its embedding."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from rhs.report.svg_plots import SMALL, Line, draw

_COLORS = ("accent", "right", "wrong")
_TITLES = {"val_map@r": "MAP@R"}
# Column of the history -> title, what its values say, whether it is a share.
_DIAGNOSTICS = {
    "intra_inter_ratio": (
        "Spread within over between classes",
        "0: each class is one point; 1: no nearer than chance",
        False,
    ),
    "effective_rank": (
        "Effective rank",
        "how many directions the embeddings fill; 1: a line",
        False,
    ),
    "hardness_gained": (
        "Hardness gained",
        "similarity of the original positive less that of the generated one",
        False,
    ),
    "synthetic_harder": (
        "Generated points that are harder",
        "share of positives that got less similar to their anchor",
        True,
    ),
    "synthetic_negatives": (
        "Generated hardest negatives",
        "share of comparisons whose hardest negative was generated",
        True,
    ),
    "rotations_unmoved": (
        "Unmoved rotations",
        "share of pairs that even a full rotation leaves in place",
        True,
    ),
}

History = Sequence[Mapping[str, object]]


@dataclass(frozen=True)
class Panel:
    """A small figure with its title and what its values mean."""

    title: str
    note: str
    figure: Markup


def series(history: History, column: str) -> tuple[list[float], list[float]]:
    """Epochs and values of a column, without the rows where it is absent, blank or not finite."""
    pairs = [(_number(row.get("epoch")), _number(row.get(column))) for row in history]
    kept = [(x, y) for x, y in pairs if x is not None and y is not None]
    return [x for x, _ in kept], [y for _, y in kept]


def _number(cell: object) -> float | None:
    if cell is None or cell == "":
        return None
    value = float(str(cell))
    return value if math.isfinite(value) else None


def recall_columns(history: History) -> list[str]:
    """The columns of scores that hold a value: val_recall@1, val_recall@2, ..., then val_map@r."""
    names = {name for row in history for name in row if "recall@" in name}
    by_k = sorted(names, key=lambda name: (int(name.rsplit("@", 1)[1]), name))
    return [name for name in [*by_k, "val_map@r"] if series(history, name)[0]]


def loss_curve(history: History) -> Markup | None:
    """Training loss by epoch; None when no epoch recorded one."""
    epochs, losses = series(history, "loss")
    if not epochs:
        return None
    return draw("loss", [Line(epochs, losses)], alt="training loss by epoch")


def recall_curve(history: History) -> Markup | None:
    """Scores on held-out classes by epoch (at most three), the best of the first marked.

    None when no epoch recorded one.
    """
    columns = recall_columns(history)[: len(_COLORS)]
    if not columns:
        return None
    lines = [
        Line(*series(history, name), color, _TITLES.get(name, name.replace("val_recall", "Recall")))
        for name, color in zip(columns, _COLORS, strict=False)
    ]
    best = _best(lines[0].values)
    return draw(
        "recall",
        lines,
        alt=", ".join(line.label for line in lines) + " by epoch",
        percent=True,
        mark=(lines[0].epochs[best], lines[0].values[best]),
    )


def best_recall(history: History, select: str = "last") -> str:
    """The epoch with the highest validation Recall@1, in words; empty without one.

    Args:
        select: which epoch the model is of, as `train.select` says.
    """
    epochs, values = series(history, "val_recall@1")
    if not epochs:
        return ""
    best = _best(values)
    model = {
        "last": "the last epoch is the model",
        "best": "the model is of that epoch",
        "best_map@r": "the model is of the epoch with the highest MAP@R",
    }[select]
    return f"highest {100 * values[best]:.1f} % at K = 1, epoch {epochs[best]:g}; {model}"


def diagnostics(history: History) -> list[Panel]:
    """A panel for each diagnostic that the run recorded, in a fixed order."""
    panels = []
    for column, (title, note, percent) in _DIAGNOSTICS.items():
        epochs, values = series(history, column)
        if epochs:
            figure = draw(
                column.replace("_", "-"),
                [Line(epochs, values)],
                alt=f"{title} by epoch",
                percent=percent,
                size=SMALL,
            )
            panels.append(Panel(title, note, figure))
    return panels


def _best(values: Sequence[float]) -> int:
    return max(range(len(values)), key=values.__getitem__)
