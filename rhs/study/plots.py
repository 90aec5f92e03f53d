"""Pictures of a study: each method with its interval, and its difference from the baselines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rhs.report.plot_style import ACCENT, MUTED, PNG, WRONG
from rhs.study.cells import UNTRAINED
from rhs.study.statistics import Estimate
from rhs.study.summary import Summary

STYLE = PNG | {"axes.spines.left": False, "axes.grid": True, "ytick.major.size": 0}
METRIC = "recall@1"
COLORS = (ACCENT, WRONG, "#2e8b57", "#8e44ad")  # by baseline
WIDTH, ROW = 4.0, 0.36  # inches: of a data set, of a method


def draw_all(
    folder: Path,
    summary: Summary,
    data: Sequence[str],
    methods: Sequence[str],
    baselines: Sequence[str],
) -> None:
    """Write scores.png and, where there are baselines, differences.png."""
    with rc_context(STYLE):
        _scores(summary, data, methods).savefig(folder / "scores.png")
        if baselines:
            figure = _differences(summary, data, methods, baselines)
            figure.savefig(folder / "differences.png")


def _panels(data: Sequence[str], rows: int) -> tuple[Figure, list[Axes]]:
    """A panel for each data set, side by side, with room for a legend at the bottom."""
    figure = Figure(figsize=(1.2 + WIDTH * len(data), 1.5 + ROW * rows), layout="constrained")
    axes = figure.subplots(1, len(data), sharey=True, squeeze=False)[0]
    for label, one in zip(data, axes, strict=True):
        one.set_title(label, loc="left", fontsize=11)
        one.grid(axis="y", visible=False)
    return figure, list(axes)


def _scores(summary: Summary, data: Sequence[str], methods: Sequence[str]) -> Figure:
    figure, panels = _panels(data, len(methods))
    for label, axes in zip(data, panels, strict=True):
        for place, method in enumerate(methods):
            for which, shift, color, filled in (
                ("chosen", -0.12, ACCENT, True),
                ("last", 0.12, MUTED, False),
            ):
                row = summary.row(label, method, which, METRIC)
                if row.mean is None:
                    if which == "chosen":
                        _absent(axes, place)
                    continue
                name = f"{which} epoch" if place == 0 else None
                _point(axes, row.mean, place + shift, color, filled, name)
        untrained = summary.row(label, UNTRAINED, "last", METRIC).mean
        if untrained is not None:
            axes.axvline(100 * untrained.mean, color=MUTED, linestyle=":", label=UNTRAINED)
        _finish(axes, methods, "Recall@1 in percent")
    _legend(figure, panels)
    return figure


def _differences(
    summary: Summary, data: Sequence[str], methods: Sequence[str], baselines: Sequence[str]
) -> Figure:
    figure, panels = _panels(data, len(methods))
    for label, axes in zip(data, panels, strict=True):
        axes.axvline(0, color="#555555", linewidth=1)
        for place, method in enumerate(methods):
            for number, baseline in enumerate(baselines):
                compared = summary.comparison(label, method, baseline, "chosen", METRIC)
                shift = 0.24 * (number - (len(baselines) - 1) / 2)
                if compared is None:
                    continue
                if compared.difference is None:
                    _absent(axes, place + shift)
                    continue
                color = COLORS[number % len(COLORS)]
                _point(axes, compared.difference, place + shift, color, compared.significant)
        _finish(axes, methods, "points of Recall@1, chosen epoch")
    for number, baseline in enumerate(baselines):
        color = COLORS[number % len(COLORS)]
        panels[0].plot([], [], "o", color=color, label=f"less {baseline}")
    panels[0].plot([], [], "o", mfc="white", mec=MUTED, label="not significant")
    _legend(figure, panels)
    return figure


def _point(
    axes: Axes, estimated: Estimate, y: float, color: str, filled: bool, name: str | None = None
) -> None:
    mean = 100 * estimated.mean
    if not math.isnan(estimated.low):
        ends = [100 * estimated.low, 100 * estimated.high]
        axes.plot(ends, [y, y], color=color, linewidth=1.6, solid_capstyle="butt")
    face = color if filled else "white"
    axes.plot([mean], [y], "o", color=color, markerfacecolor=face, markersize=6, label=name)


def _absent(axes: Axes, y: float) -> None:
    """Say that there is nothing to show, at the left of a row."""
    place = axes.get_yaxis_transform()
    axes.text(0.01, y, "seeds missing", color=MUTED, fontsize=8, va="center", transform=place)


def _finish(axes: Axes, methods: Sequence[str], unit: str) -> None:
    axes.set_yticks(range(len(methods)), methods)
    axes.set_ylim(len(methods) - 0.4, -0.6)
    axes.set_xlabel(unit)


def _legend(figure: Figure, panels: list[Axes]) -> None:
    handles: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    columns = min(4, 2 * len(panels))
    figure.legend(
        list(handles.values()),
        list(handles),
        loc="outside lower center",
        ncols=columns,
        frameon=False,
    )
