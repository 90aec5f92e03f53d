"""Pictures of a search: its history, its settings as parallel coordinates, what mattered."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from rhs.report.plot_style import ACCENT, MUTED, PNG, WRONG
from rhs.tuning.search_space import Dimension, label
from rhs.tuning.trial_log import Trial

INK = "#222222"
COLORS = "viridis"
LEGEND = "one line a trial; red: the best; below an axis: a trial without that parameter"
ABSENT = -0.12  # where a line passes a parameter that its trial does not have


def draw_all(
    folder: Path,
    trials: Sequence[Trial],
    space: Sequence[Dimension],
    objective: str,
    importances: dict[str, float],
) -> None:
    """Write history.png, parallel_coordinates.png and, where there are any, importance.png.

    Args:
        importances: shares by path, see rhs.tuning.results.importances.
    """
    with rc_context(PNG):
        _history(trials, objective).savefig(folder / "history.png")
        _parallel(trials, space, objective).savefig(folder / "parallel_coordinates.png")
        if importances:
            _importance(importances, objective).savefig(folder / "importance.png")


def _history(trials: Sequence[Trial], objective: str) -> Figure:
    figure = Figure(figsize=(6.4, 3.4))
    axes = figure.add_subplot()
    counting = [(trial, _value(trial)) for trial in trials if trial.counts]
    for state, filled, name in (("finished", True, "all epochs"), ("stopped", False, "stopped")):
        points = [(trial.number, value) for trial, value in counting if trial.state == state]
        if points:
            face = ACCENT if filled else "white"
            axes.plot(
                *zip(*points, strict=True), "o", color=ACCENT, markerfacecolor=face, label=name
            )
    numbers = [trial.number for trial, _ in counting]
    best = np.maximum.accumulate([value for _, value in counting])
    axes.step(
        [*numbers, trials[-1].number],
        [*best, best[-1]],
        where="post",
        color=INK,
        linewidth=1.2,
        label="best so far",
    )
    failed = [trial.number for trial in trials if trial.state == "failed"]
    if failed:
        low = axes.get_ylim()[0]
        axes.plot(failed, [low] * len(failed), "x", color=WRONG, label="failed", clip_on=False)
    axes.set_xlabel("trial")
    axes.set_ylabel(f"{objective}, held-out classes")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    axes.grid(axis="y")
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def _importance(importances: dict[str, float], objective: str) -> Figure:
    figure = Figure(figsize=(6.4, 0.9 + 0.36 * len(importances)))
    axes = figure.add_subplot()
    names = list(importances)[::-1]
    shares = [importances[name] for name in names]
    axes.barh(names, shares, color=ACCENT, height=0.6)
    for place, share in enumerate(shares):
        axes.text(share, place, f" {share:.0%}", va="center", color=INK)
    axes.set_xlim(0, max(shares) * 1.15)
    axes.set_xlabel(f"share of the variance of {objective} among the trials (fANOVA)")
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    axes.tick_params(axis="y", length=0)
    return figure


def _parallel(trials: Sequence[Trial], space: Sequence[Dimension], objective: str) -> Figure:
    """A line a trial, the best one strong; it passes below a parameter it does not have."""
    counting = [trial for trial in trials if trial.counts]
    counting.sort(key=lambda trial: (_value(trial), -trial.number))
    width = max(6.4, 1.7 * (len(space) + 1))
    figure = Figure(figsize=(width, 4.0))
    axes = figure.add_subplot()
    values = [_value(trial) for trial in counting]
    norm = Normalize(min(values), max(values) if max(values) > min(values) else min(values) + 0.01)
    for rank, trial in enumerate(counting, 1):
        heights = [_height(dimension, trial.values) for dimension in space]
        heights.append(float(norm(_value(trial))))
        best = rank == len(counting)
        color = WRONG if best else colormaps[COLORS](norm(_value(trial)))
        axes.plot(heights, color=color, linewidth=2.4 if best else 1.0, alpha=1 if best else 0.7)
    for place, dimension in enumerate(space):
        _axis(axes, place, _ticks(dimension))
    ends = (float(norm.vmin or 0), float(norm.vmax or 0))
    _axis(
        axes,
        len(space),
        [(share, f"{ends[0] + share * (ends[1] - ends[0]):.1%}") for share in (0.0, 0.5, 1.0)],
    )
    names = [dimension.path.replace(".", ".\n") for dimension in space]
    axes.set_xticks(range(len(space) + 1), [*names, objective])
    axes.tick_params(axis="x", length=0)
    axes.set_yticks([])
    axes.set_ylim(ABSENT - 0.04, 1.04)
    axes.set_xlim(-0.2, len(space) + 0.55)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.set_title(LEGEND, loc="left", fontsize=10, color=MUTED)
    return figure


def _axis(axes: Axes, place: int, ticks: Sequence[tuple[float, str]]) -> None:
    axes.plot([place, place], [0, 1], color=MUTED, linewidth=1.0, zorder=3)
    for height, text in ticks:
        axes.plot([place, place + 0.03], [height, height], color=MUTED, linewidth=1.0, zorder=3)
        axes.text(
            place + 0.05,
            height,
            text,
            va="center",
            fontsize=8,
            color=INK,
            zorder=4,
            bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.6},
        )


def _height(dimension: Dimension, values: dict[str, Any]) -> float:
    """Where a trial's line crosses an axis, from 0 to 1."""
    if dimension.path not in values:
        return ABSENT
    value = values[dimension.path]
    if dimension.choices:
        place = [label(choice) for choice in dimension.choices].index(value)
        return place / max(1, len(dimension.choices) - 1)
    low, high = dimension.low or 0.0, dimension.high or 0.0
    if dimension.log:
        low, high, value = math.log(low), math.log(high), math.log(value)
    return (value - low) / (high - low)


def _ticks(dimension: Dimension) -> list[tuple[float, str]]:
    if dimension.choices:
        last = max(1, len(dimension.choices) - 1)
        return [(place / last, str(label(each))) for place, each in enumerate(dimension.choices)]
    low, high = dimension.low or 0.0, dimension.high or 0.0
    middle = math.sqrt(low * high) if dimension.log else (low + high) / 2
    ends = [(0.0, f"{low:g}"), (1.0, f"{high:g}")]
    return ends if dimension.whole else [ends[0], (0.5, f"{middle:.2g}"), ends[1]]


def _value(trial: Trial) -> float:
    return trial.objective or 0.0
