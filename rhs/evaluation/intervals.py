"""The intervals of metrics.json: named numbers, which also tools that know no lists show."""

from __future__ import annotations

from collections.abc import Mapping


def written(low_high: tuple[float, float]) -> dict[str, float]:
    """An interval as metrics.json has it."""
    return dict(zip(("low", "high"), low_high, strict=True))


def interval(scores: Mapping, name: str) -> tuple[float, float] | None:
    """From where to where a score of a split lies; None where it was not asked for.

    Args:
        scores: of a split, as in metrics.json; older ones hold [low, high].
    """
    found = scores.get("intervals", {}).get(name)
    if not found:
        return None
    low, high = (found["low"], found["high"]) if isinstance(found, Mapping) else found
    return low, high
