"""Bars of how often what occurs, in the look of the report's other figures."""

from __future__ import annotations

import io

import numpy as np
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from rhs.report.svg_plots import SMALL, STAND_IN, STYLE, inline

_BARS = 32


def histogram(
    name: str, values_N: np.ndarray, *, alt: str, what: str, counted: str, logarithmic: bool = False
) -> Markup:
    """The figure as SVG.

    Args:
        name: what its ids start with; no two figures of a page may share one.
        values_N: one at least, finite; above 0 where `logarithmic`.
        alt: what it shows, for who cannot see it.
        what: title of the horizontal axis.
        counted: title of the vertical one.
        logarithmic: bars of equal width on a logarithmic axis.
    """
    edges = _edges(values_N, logarithmic)
    counts, _ = np.histogram(values_N, edges)
    with rc_context(STYLE | {"svg.hashsalt": name}):
        figure = Figure(figsize=SMALL, layout="constrained")
        axes = figure.add_subplot()
        axes.stairs(counts, edges, fill=True, color=STAND_IN["accent"], alpha=0.85)
        if logarithmic:
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
        else:
            axes.xaxis.set_major_locator(
                MaxNLocator(nbins=6, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1)
            )
        axes.yaxis.set_major_locator(
            MaxNLocator(nbins=4, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1)
        )
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.set_xlabel(what)
        axes.set_ylabel(counted)
        buffer = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    return inline(buffer.getvalue(), name, alt)


def _edges(values_N: np.ndarray, logarithmic: bool) -> np.ndarray:
    """Edges between whole numbers, as many to a bar as needed; or equal steps of the logarithm."""
    low, high = values_N.min(), values_N.max()
    if logarithmic:
        # One value alone gets a bar in the middle.
        spread = 1.02 if high > low else 1.5
        return np.geomspace(low / spread, high * spread, _BARS + 1 if high > low else 4)
    if low == high:
        return low + np.array([-1.5, -0.5, 0.5, 1.5])
    width = max(1, int(np.ceil((high - low + 1) / _BARS)))
    return np.arange(low, high + width + 1, width) - 0.5
