"""What a search has done, in one file that grows: a search that was killed goes on from it.

trials.jsonl    one object a line: a trial's setting, an epoch's value, how the trial ended
"""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ENDS = ("finished", "stopped", "failed")  # of a trial: all epochs, no more epochs, an error


@dataclass
class Trial:
    """One setting and what became of it.

    Attributes:
        values: by path, as Optuna knows them.
        overrides: the same, as Hydra's.
        curve: the objective by epoch.
        state: one of ENDS, or "unfinished".
        reason: why it failed.
    """

    number: int
    values: dict[str, Any]
    overrides: list[str]
    curve: dict[int, float] = field(default_factory=dict)
    state: str = "unfinished"
    reason: str | None = None

    @property
    def objective(self) -> float | None:
        """Of its best epoch."""
        return max(self.curve.values(), default=None)

    @property
    def best_epoch(self) -> int | None:
        """The first of those with the highest value."""
        return max(self.curve, key=lambda epoch: (self.curve[epoch], -epoch), default=None)

    @property
    def epochs(self) -> int:
        return max(self.curve, default=0)

    @property
    def counts(self) -> bool:
        """Whether it may win."""
        return self.state in ("finished", "stopped") and self.objective is not None

    def as_row(self) -> dict[str, Any]:
        """Everything about it, for tables."""
        return {
            "number": self.number,
            "values": self.values,
            "overrides": self.overrides,
            "state": self.state,
            "objective": self.objective,
            "best_epoch": self.best_epoch,
            "epochs": self.epochs,
            "reason": self.reason,
        }


class TrialLog:
    """The trials of a search, in order of their numbers, and the file that keeps them.

    A line that was cut short by a kill is left out and written over.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
    """

    def __init__(self, file: Path):
        self.file, self.trials = file, list[Trial]()
        whole = 0
        for line in file.read_bytes().splitlines(keepends=True) if file.exists() else []:
            if not line.endswith(b"\n"):
                break
            self._take(json.loads(line))
            whole += len(line)
        if file.exists():
            os.truncate(file, whole)

    @property
    def ended(self) -> list[Trial]:
        return [trial for trial in self.trials if trial.state != "unfinished"]

    def lacks(self, trials: int) -> int:
        """How many of the first so many have not ended."""
        return trials - sum(trial.number < trials for trial in self.ended)

    @property
    def best(self) -> Trial | None:
        """The one with the highest value, the first among equals; None before any has ended."""
        counting = [trial for trial in self.trials if trial.counts]
        return max(counting, key=lambda trial: trial.objective or 0.0, default=None)

    def begin(self, number: int, values: dict[str, Any], overrides: list[str]) -> None:
        """A trial's setting; nothing where that trial is here already."""
        if number == len(self.trials):
            self._write({"trial": number, "values": values, "overrides": overrides})

    def epoch(self, number: int, epoch: int, value: float) -> None:
        """An epoch's value; nothing where it is here already."""
        if epoch not in self.trials[number].curve:
            self._write({"trial": number, "epoch": epoch, "value": value})

    def end(self, number: int, state: str, reason: str | None = None) -> None:
        """How a trial ended: one of ENDS."""
        if self.trials[number].state == "unfinished":
            self._write({"trial": number, "state": state, "reason": reason})

    def _write(self, entry: dict[str, Any]) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._take(entry)

    def _take(self, entry: dict[str, Any]) -> None:
        number = entry["trial"]
        if "values" in entry:
            self.trials.append(Trial(number, entry["values"], entry["overrides"]))
        elif "epoch" in entry:
            self.trials[number].curve[entry["epoch"]] = entry["value"]
        else:
            self.trials[number].state, self.trials[number].reason = entry["state"], entry["reason"]
