"""Curves by epoch as inline SVG that follows the page's light or dark colors."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

# matplotlib wants literal colors; these stand-ins become the page's CSS variables afterwards.
_INK, _MUTED, _RULE = "#010101", "#020202", "#030303"
_SERIES = ("#040404", "#050505", "#060606")
_VARIABLES = {
    _INK: "var(--ink)",
    _MUTED: "var(--muted)",
    _RULE: "var(--rule)",
    _SERIES[0]: "var(--accent)",
    _SERIES[1]: "var(--right)",
    _SERIES[2]: "var(--wrong)",
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # real text: the page's font, searchable, a tenth of the size
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": _INK,
    "axes.edgecolor": _RULE,
    "axes.labelcolor": _MUTED,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "grid.color": _RULE,
    "grid.linewidth": 0.8,
    "xtick.color": _RULE,
    "ytick.color": _RULE,
    "xtick.labelcolor": _MUTED,
    "ytick.labelcolor": _MUTED,
    "ytick.major.size": 0,
}

History = Sequence[Mapping[str, object]]


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
    """The recall columns that hold at least one value, by K: val_recall@1, val_recall@2, ..."""
    names = {name for row in history for name in row if "recall@" in name}
    filled = [name for name in names if series(history, name)[0]]
    return sorted(filled, key=lambda name: (int(name.rsplit("@", 1)[1]), name))


def loss_curve(history: History) -> Markup | None:
    """Training loss by epoch; None when no epoch recorded one."""
    epochs, losses = series(history, "loss")
    if not epochs:
        return None
    return _draw("loss", {"training loss": (epochs, losses)}, percent=False)


def recall_curve(history: History) -> Markup | None:
    """Validation Recall@K by epoch (at most three K), the best of the first marked.

    None when no epoch recorded one.
    """
    columns = recall_columns(history)[: len(_SERIES)]
    if not columns:
        return None
    lines = {name.replace("val_recall", "Recall"): series(history, name) for name in columns}
    return _draw("recall", lines, percent=True)


def best_recall(history: History) -> str:
    """The epoch with the highest validation Recall@1, in words; empty without one."""
    epochs, values = series(history, "val_recall@1")
    if not epochs:
        return ""
    best = _best(values)
    return (
        f"highest {100 * values[best]:.1f} % at K = 1, epoch {epochs[best]:g}; "
        "the last epoch is the model"
    )


def _best(values: Sequence[float]) -> int:
    return max(range(len(values)), key=values.__getitem__)


def _draw(
    name: str, lines: Mapping[str, tuple[list[float], list[float]]], *, percent: bool
) -> Markup:
    with rc_context(_STYLE | {"svg.hashsalt": name}):
        figure = Figure(figsize=(5.6, 2.9), layout="constrained")
        axes = figure.add_subplot()
        for color, (label, (epochs, values)) in zip(_SERIES, lines.items(), strict=False):
            few = len(epochs) <= 40
            axes.plot(
                epochs,
                values,
                color=color,
                linewidth=1.8,
                marker="o" if few else None,
                markersize=3.5,
                label=label,
            )
        if percent:
            epochs, values = next(iter(lines.values()))
            best = _best(values)
            axes.plot(epochs[best], values[best], "o", color=_SERIES[0], markersize=8)
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.margins(x=0.03, y=0.12)
        if len(lines) > 1:
            axes.legend(frameon=False, loc="lower right")
        buffer = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    return _inline(buffer.getvalue(), name, ", ".join(lines) + " by epoch")


def _inline(svg: str, name: str, label: str) -> Markup:
    """Strip the file's prologue, let it scale, keep its ids its own, follow the page's colors."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", svg, count=2)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = svg.replace("url(#", f"url(#{name}-").replace('href="#', f'href="#{name}-')
    svg = svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
    # With the page's own font, not the list matplotlib would put on every text.
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px; font-family: inherit", svg)
    for literal, variable in _VARIABLES.items():
        svg = svg.replace(literal, variable)
    # Safe as markup: all of it was drawn above, from numbers and fixed names.
    return Markup(svg)
