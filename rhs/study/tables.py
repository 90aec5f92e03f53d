"""A study's tables: for people in Markdown, for machines in CSV."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rhs.storage.csv_lists import csv_text
from rhs.study.cells import METRICS, UNTRAINED, WHICH, Cell
from rhs.study.settings import ENOUGH, StudySettings
from rhs.study.statistics import Estimate
from rhs.study.summary import Comparison, Row, Summary
from rhs.tuning.results import Provenance

TITLES = {"recall@1": "Recall@1", "map@r": "MAP@R"}
GAP = "-"


@dataclass(frozen=True)
class TunedSetting:
    """The setting that a method was given on a data set.

    Attributes:
        overrides: that the search has found; None: all its trials failed.
        value: of the objective on the held-out classes; None without a search.
        ended: trials by how they ended.
        reason: why there is no setting.
    """

    overrides: list[str] | None
    value: float | None = None
    ended: Mapping[str, int] = field(default_factory=dict)
    reason: str = ""


def markdown(
    settings: StudySettings,
    summary: Summary,
    tuned: Mapping[tuple[str, str], TunedSetting],
    finished: Sequence[tuple[Cell, dict]],
    origin: Provenance,
) -> str:
    """table.md, of the data sets in `origin.digests`."""
    lines = [f"# Study {settings.name}", "", *_about(settings, summary, origin), ""]
    for data, digest in origin.digests.items():
        lines += [f"## {data}", "", f"Shards `{digest[:16]}`.", ""]
        lines += _scores(settings, summary, data)
        for baseline in settings.baselines:
            lines += ["", *_differences(settings, summary, data, baseline)]
        lines += ["", *_settings(settings, tuned, data), ""]
    lines += _failures(finished)
    lines += _alone(settings.select, finished)
    return "\n".join(lines).rstrip() + "\n"


def _about(settings: StudySettings, summary: Summary, origin: Provenance) -> list[str]:
    budget = "Every method runs with the settings below; none was tuned."
    if settings.trials:
        budget = (
            f"Every method was tuned by {settings.trials} trials on each data set "
            f"({settings.tune.get('objective', 'recall@1')} on held-out training classes, seed "
            f"{settings.tune_seed})."
        )
    name = {"best": "Recall@1", "best_map@r": "MAP@R"}[settings.select]
    told = [
        f"Command: `{origin.command}`",
        "",
        f"Machine: {origin.machine}. Date: {origin.date}. Code `{origin.code[:16]}`. "
        f"Seeds: {', '.join(map(str, summary.seeds))}.",
        "",
        f"{budget} The test classes chose nothing: *chosen* is the epoch with the highest {name} "
        "on the held-out training classes, *last* the last one.",
        "",
        "In percent: mean and 95 % t-interval over the seeds. Differences in points, between runs "
        f"of one seed; p by a paired t-test, corrected by Holm over the {summary.family} "
        "comparisons of one kind of score in the data sets below. Bold: the interval excludes zero "
        "and p < 0.05.",
    ]
    if settings.trials:
        told += [
            "",
            "Intervals and p say how much training varies with the setting that was found. A "
            "search with another seed finds another setting, which they do not know of.",
        ]
    if len(summary.seeds) < ENOUGH:
        told += ["", f"**{len(summary.seeds)} seed(s): fewer than {ENOUGH} prove nothing.**"]
    return told


def _scores(settings: StudySettings, summary: Summary, data: str) -> list[str]:
    columns = [(metric, which) for metric in METRICS for which in WHICH]
    heads = [f"{TITLES[metric]}, {which}" for metric, which in columns]
    lines = [_line(["method", *heads]), _rule(1 + len(heads))]
    for method in [UNTRAINED, *settings.methods]:
        rows = [summary.row(data, method, which, metric) for metric, which in columns]
        lines.append(_line([method, *map(_of_row, rows)]))
    return lines


def _differences(settings: StudySettings, summary: Summary, data: str, baseline: str) -> list[str]:
    columns = [(metric, which) for metric in METRICS for which in WHICH]
    heads = [f"{TITLES[metric]}, {which}" for metric, which in columns]
    lines = [_line([f"less {baseline}", *heads]), _rule(1 + len(heads))]
    for method in settings.methods:
        if method == baseline:
            continue
        compared = [
            summary.comparison(data, method, baseline, which, metric) for metric, which in columns
        ]
        lines.append(_line([method, *[_of_comparison(c) for c in compared if c is not None]]))
    return lines


def _settings(
    settings: StudySettings, tuned: Mapping[tuple[str, str], TunedSetting], data: str
) -> list[str]:
    lines = [_line(["method", "setting", "held-out value", "trials"]), _rule(4)]
    for method in settings.methods:
        one = tuned[data, method]
        fixed = settings.methods[method].overrides
        setting = " ".join([*fixed, *(one.overrides or [])])
        value = GAP if one.value is None else f"{100 * one.value:.1f}"
        ended = ", ".join(f"{count} {how}" for how, count in one.ended.items()) or GAP
        lines.append(_line([method, one.reason or f"`{setting}`", value, ended]))
    return lines


def _failures(finished: Sequence[tuple[Cell, dict]]) -> list[str]:
    failed = [(cell, result) for cell, result in finished if "failed" in result]
    if not failed:
        return []
    lines = ["## Cells that failed", "", "They leave gaps above.", ""]
    lines += [f"- {cell.name}: {result['failed']}" for cell, result in failed]
    return [*lines, ""]


def _alone(select: str, finished: Sequence[tuple[Cell, dict]]) -> list[str]:
    cell = next((cell for cell, _ in finished if cell.command), None)
    if cell is None:
        return []
    return [
        "## A cell alone",
        "",
        f"`cells.csv` has the command of each; the one of {cell.name} is below. It scores the last "
        f"epoch, and with `-S train.select={select}` the chosen one.",
        "",
        "```bash",
        cell.command,
        "```",
    ]


def _of_row(row: Row) -> str:
    if row.mean is None:
        there = len(row.values)
        return f"{GAP} ({there} of {there + len(row.missing)} seeds)"
    return _text(row.mean)


def _of_comparison(compared: Comparison) -> str:
    if compared.difference is None:
        return GAP
    text = _text(compared.difference, signed=True)
    if not math.isnan(compared.corrected):
        p = compared.corrected
        text += f", p {'< 0.001' if p < 0.001 else f'= {p:.3f}'}"
    return f"**{text}**" if compared.significant else text


def _text(estimated: Estimate, signed: bool = False) -> str:
    places = 2 if signed else 1
    told = [
        f"{round(100 * number, places) + 0.0:{'+' if signed else ''}.{places}f}"  # no minus zero
        for number in (estimated.mean, estimated.low, estimated.high)
    ]
    return told[0] if math.isnan(estimated.low) else f"{told[0]} [{told[1]}, {told[2]}]"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _rule(columns: int) -> str:
    return "|" + "---|" * columns


def table_csv(summary: Summary) -> str:
    """A line for each mean and each difference, in [0, 1]."""
    columns = ("data", "method", "baseline", "which", "metric")
    lines = []
    for row in summary.rows:
        head = (row.data, row.method, "", row.which, row.metric)
        lines.append([*head, len(row.values), *_numbers(row.mean), ""])
    for c in summary.comparisons:
        head = (c.data, c.method, c.baseline, c.which, c.metric)
        corrected = "" if math.isnan(c.corrected) else c.corrected
        count = 0 if c.difference is None else c.difference.count
        p = "" if c.difference is None or math.isnan(c.difference.p) else c.difference.p
        lines.append([*head, count, *_numbers(c.difference)[:3], p, corrected])
    return csv_text([[*columns, "seeds", "mean", "low", "high", "p", "p_holm"], *lines])


def _numbers(estimated: Estimate | None) -> list[float | str]:
    if estimated is None:
        return ["", "", "", ""]
    told = [estimated.mean, estimated.low, estimated.high]
    return [*("" if math.isnan(number) else number for number in told), ""]


def cells_csv(finished: Sequence[tuple[Cell, dict]]) -> str:
    """A line for each cell: its scores, or why it failed, and the command that makes it alone."""
    heads = ["data", "method", "seed", "run"]
    heads += [f"{which}_{what}" for which in WHICH for what in (*METRICS, "epoch")]
    lines = []
    for cell, result in finished:
        scores = result.get("scores", {})
        told = [scores.get(w, {}).get(what, "") for w in WHICH for what in (*METRICS, "epoch")]
        more = [result.get("seconds", ""), result.get("failed", ""), cell.command]
        lines.append([cell.data, cell.method, cell.seed, cell.run, *told, *more])
    return csv_text([[*heads, "seconds", "failed", "command"], *lines])
