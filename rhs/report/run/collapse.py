"""The study of class collapse, as `python -m benchmarks.collapse` leaves it, on the page.

Its JSON: `command`, `date`, `machine`, `groups`, `classes`, `unseen_classes`, `columns` (name ->
{title, note, percent}) and `arms`, each with `name`, `title` and `cells`: one a seed, with `seed`,
`scores` (column -> number) and `curve` (one mapping an epoch, from 0, the untrained network).
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from rhs.report.svg_plots import Line, draw

_COLORS = ("wrong", "accent", "warn", "right")


@dataclass(frozen=True)
class Arm:
    """One way to train, as the legend shows it."""

    title: str
    color: str
    dashed: bool


@dataclass(frozen=True)
class Collapse:
    """What the section shows.

    Attributes:
        columns: (title, note) of the table's columns.
        rows: (title, cells) of the table; a cell is "mean ± deviation" over the seeds.
    """

    groups: int
    classes: int
    unseen_classes: int
    seeds: int
    arms: list[Arm]
    recall: Markup
    rank: Markup
    columns: list[tuple[str, str]]
    rows: list[tuple[str, list[str]]]
    command: str
    machine: str
    date: str


def collapse_section(study: Mapping | None) -> Collapse | None:
    """The section of a study; None without one."""
    if study is None:
        return None
    trained = [arm for arm in study["arms"] if len(arm["cells"][0]["curve"]) > 1]
    columns: Mapping[str, Mapping] = study["columns"]
    return Collapse(
        groups=study["groups"],
        classes=study["classes"],
        unseen_classes=study["unseen_classes"],
        seeds=len(study["arms"][0]["cells"]),
        arms=[Arm(arm["title"], color, i > 1) for i, (arm, color) in enumerate(_colored(trained))],
        recall=_figure(trained, "recall_seen", "Recall@1 of the classes", percent=True),
        rank=_figure(trained, "effective_rank", "Effective rank", percent=False),
        columns=[(column["title"], column["note"]) for column in columns.values()],
        rows=[
            (
                arm["title"],
                [_cell(arm, name, column["percent"]) for name, column in columns.items()],
            )
            for arm in study["arms"]
        ],
        command=study["command"],
        machine=study["machine"],
        date=study["date"],
    )


def _colored(arms: Sequence[Mapping]) -> list[tuple[Mapping, str]]:
    return [(arm, _COLORS[i % len(_COLORS)]) for i, arm in enumerate(arms)]


def _figure(arms: Sequence[Mapping], column: str, what: str, *, percent: bool) -> Markup:
    """A faint line for each seed of each arm, and a strong one for their mean."""
    lines = []
    for i, (arm, color) in enumerate(_colored(arms)):
        curves = [cell["curve"] for cell in arm["cells"]]
        for cell, curve in zip(arm["cells"], curves, strict=True):
            epochs, values = [row["epoch"] for row in curve], [row[column] for row in curve]
            name = f"{arm['name']}-seed-{cell['seed']}"
            lines.append(Line(epochs, values, color, id=name, faint=True))
        # Epochs that every seed has measured.
        shared = sorted(set.intersection(*({row["epoch"] for row in curve} for curve in curves)))
        at = [{row["epoch"]: row[column] for row in curve} for curve in curves]
        means = [statistics.fmean(values[epoch] for values in at) for epoch in shared]
        lines.append(Line(shared, means, color, id=f"{arm['name']}-mean", dashed=i > 1))
    titles = ", ".join(arm["title"] for arm in arms)
    name = "collapse-" + column.replace("_", "-")
    return draw(name, lines, alt=f"{what} by epoch: {titles}", percent=percent)


def _cell(arm: Mapping, column: str, percent: bool) -> str:
    values = [cell["scores"][column] for cell in arm["cells"]]
    scale = 100 if percent else 1
    digits = 1 if percent or statistics.fmean(values) >= 2 else 2
    mean = f"{scale * statistics.fmean(values):.{digits}f}"
    spread = f" ± {scale * statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return mean + spread + (" %" if percent else "")
