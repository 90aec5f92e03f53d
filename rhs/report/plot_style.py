"""How matplotlib's pictures look, of searches, of studies and on pages."""

from typing import Any

BASE: dict[Any, Any] = {
    "font.size": 10,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
PNG = BASE | {
    "axes.edgecolor": "#999999",
    "grid.color": "#e4e4e4",
    "figure.dpi": 150,
    "savefig.bbox": "tight",
}
ACCENT, WRONG, MUTED = "#1f6fb4", "#c0392b", "#8a8a8a"  # of PNG; a page has colors of its own
