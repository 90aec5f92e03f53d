"""A run's numbers on disk, in order, and how many of them MLflow has.

    <run>/metrics.jsonl    one entry a line: numbers of a group at a step, or the run's status
    <run>/metrics.sent     which MLflow run has the first so many bytes of it

A run is a pure function of its parameters and data. So a number that is reported again, because an
interrupted run repeats some steps, is the one that is here already, and is dropped.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from rhs.storage.atomic import atomic_file

CURVES = ("train", "step", "system")  # groups whose steps only grow; others are scores
LEFT = 60.0  # seconds after which a file that is written at once is a leftover


class Sent(NamedTuple):
    """What an MLflow run has of a spool: its first bytes, and of curves no step up to these."""

    run_id: str
    bytes: int
    known: dict[str, int]


class Spool:
    """Append-only; for one process at a time and all of its threads.

    Args:
        folder: of the run; made by the first entry where it is missing.

    Raises:
        OSError: here and in `add`, for instance because the disk is full.
    """

    def __init__(self, folder: Path):
        self.path, self.cursor = folder / "metrics.jsonl", folder / "metrics.sent"
        self._lock = threading.Lock()
        self._last: dict[str, dict] = {}  # entry of each group
        self._size = self.path.stat().st_size if self.path.exists() else 0
        whole = damaged = 0
        for entry, after in self.entries(0):
            self._last[entry.get("group", "")] = entry
            damaged += not entry
            whole = after
        if damaged:
            print(f"{self.path}: {damaged} damaged lines are left out", file=sys.stderr)
        if whole < self._size:
            os.truncate(self.path, whole)  # killed while appending
            self._size = whole
        sent = self.sent()
        if sent is not None and sent.bytes > whole:
            self.cursor.unlink()  # of a spool that was deleted since
        for leftover in folder.glob(f".{self.cursor.name}.*.tmp"):  # killed while noting
            with suppress(FileNotFoundError):  # another stage's, at work just now
                if leftover.stat().st_mtime < time.time() - LEFT:
                    leftover.unlink()

    def add(
        self,
        group: str,
        rows: list[tuple[int, dict[str, float]]],
        model_id: str | None = None,
        run_id: str | None = None,
    ) -> None:
        """Append the numbers (step, values) that are not here yet.

        Args:
            model_id: of the model that the numbers belong to, registered from MLflow run `run_id`.
        """
        about = {"model_id": model_id, "run_id": run_id} if model_id else {}
        with self._lock:
            new = []
            for step, values in rows:
                entry = {"group": group, "step": step, "ms": _now(), **about, "values": values}
                if self._is_new(entry):
                    self._last[group] = entry
                    new.append(entry)
            self._append(new)

    def set_status(self, status: str) -> None:
        """Append what MLflow is to call the run's state: RUNNING, FINISHED, FAILED or KILLED."""
        with self._lock:
            self._append([{"status": status, "ms": _now()}])

    def _is_new(self, entry: dict[str, Any]) -> bool:
        """Whether it is; a score that only belongs to another model now keeps its time."""
        last = self._last.get(entry["group"])
        if last is None:
            return True
        if entry["group"] in CURVES:
            return entry["step"] > last["step"]
        if (entry["step"], entry["values"]) == (last["step"], last["values"]):
            entry["ms"] = last["ms"]
        return entry != last

    def _append(self, entries: list[dict]) -> None:
        text = "".join(json.dumps(entry) + "\n" for entry in entries)
        if not text:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
                self._size = file.tell()
        except OSError as error:
            if self.path.exists():
                os.truncate(self.path, self._size)
            error.filename = error.filename or str(self.path)
            raise

    def entries(self, start: int) -> Iterator[tuple[dict[str, Any], int]]:
        """Whole entries from byte `start` on, {} for damaged ones, each with the byte after it."""
        if start >= self._size:
            return
        with self.path.open("rb") as file:
            file.seek(start)
            for line in file:
                start += len(line)
                if not line.endswith(b"\n") or start > self._size:
                    return  # killed while appending, or about to be appended
                yield _parsed(line), start

    def sent(self) -> Sent | None:
        """What was noted last; None where nothing is known."""
        if not self.cursor.exists():
            return None
        told = _parsed(self.cursor.read_bytes())
        return Sent(**told) if told else None

    def note(self, sent: Sent) -> None:
        """Remember, whole or not at all, what an MLflow run has."""
        # Two stages of a run may be at work at once.
        with atomic_file(self.cursor) as partial:
            partial.write_text(json.dumps(sent._asdict()))

    def waiting(self) -> int:
        """Rows of numbers that were not sent yet."""
        sent = self.sent()
        return sum("group" in entry for entry, _ in self.entries(sent.bytes if sent else 0))


def _parsed(line: bytes) -> dict[str, Any]:
    """The line's object; {} if the line is damaged, as a machine that lost power may leave it."""
    try:
        return json.loads(line)
    except ValueError:
        return {}


def _now() -> int:
    return int(time.time() * 1000)
