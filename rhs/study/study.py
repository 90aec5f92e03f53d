"""A study: every method tuned alike on every data set, then trained and scored with every seed.

studies/<name>/tuning/     the searches, see rhs.tuning.search
studies/<name>/cells/      what came of each cell, see rhs.study.cells
studies/<name>/results/    tables and pictures

Each search and each cell is kept under what it depends on, so the same call continues.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from rhs.data.shards import has_split, load_manifest
from rhs.errors import UserError
from rhs.storage.atomic import atomic_folder
from rhs.storage.outputs import RESULTS
from rhs.study.cells import UNTRAINED, Cell, Cells, make_cell, selected_scores
from rhs.study.plots import draw_all
from rhs.study.ray_tasks import run_on_ray
from rhs.study.settings import StudySettings
from rhs.study.summary import Summary, summarize
from rhs.study.tables import TunedSetting, cells_csv, markdown, table_csv
from rhs.study.tracking import track_cell
from rhs.tracking.tracker import NullTracker
from rhs.training.preflight import check
from rhs.tuning.results import Provenance
from rhs.tuning.search import AllFailed, search
from rhs.tuning.search_space import check_paths
from rhs.tuning.trial import check_range_ends

Execute = Callable[[Sequence[Cell], Cells], Iterator[tuple[Cell, dict]]]


@dataclass
class Study:
    """A study under way.

    Args:
        shards: by the data set's label.
        folder: gets everything.
        command: that runs this study.
        tracker: of the study's own MLflow run; trials and cells get one each beneath it.
        execute: runs cells, see rhs.study.ray_tasks.run_on_ray.
        say: takes lines for a person to read.
    """

    settings: StudySettings
    shards: Mapping[str, Path]
    folder: Path
    command: str
    tracker: NullTracker = field(default_factory=NullTracker)
    execute: Execute = run_on_ray
    say: Callable[[str], None] = tqdm.write

    def __post_init__(self) -> None:
        self.cells = Cells(self.folder / "cells")
        self.tuned: dict[tuple[str, str], TunedSetting] = {}
        self.finished: list[tuple[Cell, dict]] = []

    def run(self) -> Summary:
        """Do what is not done yet, as `check` has found it good.

        Results are written after each data set.

        Raises:
            Interrupted: a signal asked this process to end.
        """
        for number, data in enumerate(self.settings.data, start=1):
            for method in self.settings.methods:
                self.tuned[data, method] = self._tune(data, method)
            self._train(data)
            done = list(self.settings.data)[:number]
            summary = self._write(done)
        return summary

    def check(self) -> None:
        """Refuse what cannot work, before anything runs.

        Raises:
            UserError: parameters that do not exist or do not fit, or no held-out classes.
        """
        ends = set[tuple]()
        for number, data in enumerate(self.settings.data):
            if not has_split(self.shards[data], "val"):
                raise UserError(
                    f"{data} has no held-out classes to choose by: set dataset.validation above 0, "
                    "for instance 0.1."
                )
            for method in self.settings.methods:
                base = self.settings.overrides(data, method)
                cell = make_cell(data, method, self.settings.seeds[0], base, self.shards[data])
                check(cell.params, self.shards[data])
                if self.settings.trials and number == 0:
                    space = self.settings.search_of(method).dimensions
                    check_paths(space, base)
                    new = [each for each in space if each.ends not in ends]
                    check_range_ends(new, base, self.shards[data])
                    ends |= {each.ends for each in new}

    def _tune(self, data: str, method: str) -> TunedSetting:
        """The method's setting on this data set; a search that only failed leaves a gap."""
        settings = self.settings
        if not settings.trials:
            return TunedSetting([])
        seed = f"seed={settings.tune_seed}"
        base = settings.overrides(data, method, seed, f"tracking.experiment={settings.name}")
        self.say(f"{data} {method}: {settings.trials} trials")
        folder = self.folder / "tuning" / data / method
        asked = settings.search_of(method)
        try:
            found = search(base, asked, self.shards[data], folder, self.tracker, self.say)
        except AllFailed as error:
            self.say(f"{data} {method}: {error}")
            return TunedSetting(None, reason=str(error))
        ended = Counter(trial["state"] for trial in found.trials)
        return TunedSetting(found.overrides, found.value, dict(ended))

    def _train(self, data: str) -> None:
        """Every cell of a data set, those that are kept already first."""
        settings, fresh, cells = self.settings, list[Cell](), self._cells(data)
        for cell in cells:
            kept = self.cells.read(cell)
            if kept is None:
                fresh.append(cell)
            else:
                self.finished.append((cell, selected_scores(kept, settings.select)))
        with tqdm(
            total=len(cells), initial=len(cells) - len(fresh), desc=data, disable=None
        ) as bar:
            for cell, whole in self.execute(_once(fresh), self.cells):
                result = selected_scores(whole, settings.select)
                track_cell(self.tracker, settings.name, cell, result, self.cells.home(cell))
                self.cells.write(cell, whole)
                self.say(_line(cell, result))
                twins = [other for other in fresh if other.run == cell.run]
                self.finished += [(twin, result) for twin in twins]
                bar.update(len(twins))

    def _cells(self, data: str) -> list[Cell]:
        """Of a data set: the untrained model, and all methods that have a setting."""
        first = next(iter(self.settings.methods))
        whole = {UNTRAINED: self.settings.overrides(data, first, "train.epochs=0")}
        for method in self.settings.methods:
            setting = self.tuned[data, method].overrides
            if setting is not None:
                whole[method] = self.settings.overrides(data, method, *setting)
        return [
            make_cell(data, method, seed, overrides, self.shards[data])
            for method, overrides in whole.items()
            for seed in self.settings.seeds
        ]

    def _write(self, done: list[str]) -> Summary:
        """Tables and pictures of these data sets."""
        settings, order = self.settings, list(self.settings.methods)
        self.finished.sort(key=lambda each: _place(each[0], settings))
        summary = summarize(self.finished, done, order, settings.baselines, settings.seeds)
        digests = {data: load_manifest(self.shards[data])["digest"] for data in done}
        machines = {r.get("machine", "not known") for _, r in self.finished if "failed" not in r}
        machine = "; ".join(sorted(machines))
        origin = Provenance(self.command, digests, machine)
        text = markdown(settings, summary, self.tuned, self.finished, origin)
        with atomic_folder(self.folder / "results", RESULTS) as folder:
            (folder / "table.md").write_text(text, encoding="utf-8")
            (folder / "table.csv").write_text(table_csv(summary), encoding="utf-8")
            (folder / "cells.csv").write_text(cells_csv(self.finished), encoding="utf-8")
            draw_all(folder, summary, done, order, settings.baselines)
        for data in done:
            for method in [*order, UNTRAINED]:
                values = _told(summary, data, method)
                if values:
                    self.tracker.metrics(values, 0, f"{data}/{method}")
        self.tracker.artifacts(self.folder / "results", "study")
        return summary


def _once(cells: Sequence[Cell]) -> list[Cell]:
    """Without those that another one is the same run as: two methods may be tuned to one."""
    return list({cell.run: cell for cell in cells}.values())


def _place(cell: Cell, settings: StudySettings) -> tuple[int, int, int]:
    labels = list(settings.data), [UNTRAINED, *settings.methods]
    return labels[0].index(cell.data), labels[1].index(cell.method), cell.seed


def _line(cell: Cell, result: dict) -> str:
    """What a cell came to, in a line."""
    if "failed" in result:
        return f"{cell.name} failed: {result['failed']}"
    each = [
        f"{scores['recall@1']:.1%} {which} (epoch {scores['epoch']})"
        for which, scores in result["scores"].items()
    ]
    return f"{cell.name}: Recall@1 {', '.join(each)}, {result['seconds']:.0f} s"


def _told(summary: Summary, data: str, method: str) -> dict[str, float]:
    """Means and their intervals, for MLflow; nothing of what is missing."""
    told: dict[str, float] = {}
    for row in summary.rows:
        if (row.data, row.method) == (data, method) and row.mean is not None:
            name = f"{row.which}_{row.metric}"
            ends = {f"{name}_low": row.mean.low, f"{name}_high": row.mean.high}
            told |= {name: row.mean.mean, **ends}
    return {name: value for name, value in told.items() if not math.isnan(value)}
