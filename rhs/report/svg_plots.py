"""Lines over epochs and histograms as inline SVG that follows the page's light or dark colors."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from rhs.report.plot_style import BASE

# matplotlib wants literal colors; these stand-ins become the page's CSS variables afterwards.
_NAMES = ("ink", "muted", "rule", "accent", "right", "wrong", "warn")
STAND_IN = {name: "#" + 3 * f"0{place}" for place, name in enumerate(_NAMES, start=1)}
STYLE = BASE | {
    "svg.fonttype": "none",  # real text: the page's font, searchable, a tenth of the size
    "font.family": "sans-serif",
    "text.color": STAND_IN["ink"],
    "axes.edgecolor": STAND_IN["rule"],
    "axes.labelcolor": STAND_IN["muted"],
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.spines.left": False,
    "grid.color": STAND_IN["rule"],
    "grid.linewidth": 0.8,
    "xtick.color": STAND_IN["rule"],
    "ytick.color": STAND_IN["rule"],
    "xtick.labelcolor": STAND_IN["muted"],
    "ytick.labelcolor": STAND_IN["muted"],
    "ytick.major.size": 0,
}
_BARS = 32
WIDE, SMALL = (5.6, 2.9), (3.6, 2.1)  # of a figure, in inches; it is scaled to its place


@dataclass(frozen=True)
class Line:
    """One line of a figure.

    Attributes:
        epochs, values: where it goes.
        color: one of the page's color variables: accent, right, wrong, warn.
        label: its name in the legend; none without.
        id: of its group in the SVG, after the figure's name.
        dashed: told apart by more than its color.
        faint: one of several that a stronger line sums up.
    """

    epochs: Sequence[float]
    values: Sequence[float]
    color: str = "accent"
    label: str = ""
    id: str = ""
    dashed: bool = False
    faint: bool = False


def draw(
    name: str,
    lines: Sequence[Line],
    *,
    alt: str,
    percent: bool = False,
    mark: tuple[float, float] | None = None,
    size: tuple[float, float] = WIDE,
) -> Markup:
    """The figure as SVG.

    Args:
        name: what its ids start with; no two figures of a page may share one.
        alt: what it shows, for who cannot see it.
        percent: values are shares, shown as percentages.
        mark: (epoch, value) of a point that stands out.
    """
    with rc_context(STYLE | {"svg.hashsalt": name}):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.add_subplot()
        for line in lines:
            _add(axes, line)
        if mark is not None:
            axes.plot(*mark, "o", color=STAND_IN["accent"], markersize=8)
        if percent:
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))
        axes.margins(x=0.03, y=0.12)
        if sum(bool(line.label) for line in lines) > 1:
            axes.legend(frameon=False, loc="lower right")
        buffer = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    return inline(buffer.getvalue(), name, alt)


def _add(axes: Axes, line: Line) -> None:
    few = len(line.epochs) <= 40 and not line.faint
    (drawn,) = axes.plot(
        line.epochs,
        line.values,
        color=STAND_IN[line.color],
        linewidth=0.9 if line.faint else 1.8,
        alpha=0.45 if line.faint else None,
        linestyle=(0, (4, 2)) if line.dashed and not line.faint else "-",
        marker="o" if few else None,
        markersize=3.5,
        label=line.label or None,
    )
    if line.id:
        drawn.set_gid(line.id)


def inline(svg: str, name: str, alt: str) -> Markup:
    """Strip the file's prologue, let it scale, keep its ids its own, follow the page's colors."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", svg, count=2)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = svg.replace("url(#", f"url(#{name}-").replace('href="#', f'href="#{name}-')
    label = Markup.escape(alt)
    svg = svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
    # With the page's own font, not the list matplotlib would put on every text.
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px; font-family: inherit", svg)
    for variable, literal in STAND_IN.items():
        svg = svg.replace(literal, f"var(--{variable})")
    # Safe as markup: all of it was drawn above, from numbers and escaped names.
    return Markup(svg)


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
