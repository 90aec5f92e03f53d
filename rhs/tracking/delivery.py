"""Takes a run's numbers from its spool to MLflow, in the background and as often as it takes."""

import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from rhs.explain import explain
from rhs.tracking.mlflow_run import is_away, known_steps, reason
from rhs.tracking.spool import Sent, Spool

AT_ONCE = 1000  # metrics that MLflow takes in one call
FIRST_WAIT, LONGEST_WAIT = 1.0, 30.0  # seconds between two tries
LAST_TRY = 5.0  # seconds without progress after which a stage ends all the same


class Delivery(threading.Thread):
    """Ends with the process; `close` ends it in time.

    Args:
        connect: gives a client and the id of the MLflow run, or raises.
        place: MLflow's address, fit to be shown.

    Attributes:
        client, run_id: None until MLflow has answered.
        first: set when the first try to connect is over.
        refusal: why MLflow will never answer; then nothing is tried any more.
    """

    def __init__(self, spool: Spool, connect: Callable[[], tuple[Any, str]], place: str):
        super().__init__(name="mlflow", daemon=True)
        self.spool, self.connect, self.place = spool, connect, place
        self.client: Any = None
        self.run_id: str | None = None
        self.first = threading.Event()
        self.refusal: Exception | None = None
        self._wake, self._closing = threading.Event(), threading.Event()
        self._telling = threading.Lock()
        self._rows = 0  # delivered so far
        self._told: int | None = None  # rows delivered when trouble was told
        self._trouble: Exception | None = None  # why MLflow does not get them

    def wake(self) -> None:
        """There is something new."""
        self._wake.set()

    def close(self) -> None:
        """Try once more, and wait for it as long as it gets on."""
        self._closing.set()
        self._wake.set()
        before = -1
        while self.is_alive() and before != self._rows:
            before = self._rows
            self.join(LAST_TRY)
        if waiting := self.spool.waiting():
            trouble = self.refusal or self._trouble
            why = "is away"
            if trouble is not None and not is_away(trouble):
                why = f"{_state(trouble)[0]} ({reason(trouble)})"
            self._say(
                f" {why}: {waiting} rows wait in {self.spool.path}; the next stage of this run, or "
                "the same command again, sends them"
            )

    def run(self) -> None:
        wait = FIRST_WAIT
        while True:
            self._wake.clear()
            last = self._closing.is_set()  # in this order: `close` sets this, then that
            try:
                self._deliver()
            except Exception as error:  # each kind of store has its own
                if not self.first.is_set() and not is_away(error):
                    self.refusal = error
                    self.first.set()
                    return
                self.tell(error)
                self.first.set()
                if last:
                    return
                self._closing.wait(wait)
                wait = min(2 * wait, LONGEST_WAIT)
            else:
                wait = FIRST_WAIT
                if self._told is not None:
                    self._say(f" is back: {self._rows - self._told} rows sent")
                    self._told = self._trouble = None
                if last:
                    return
                self._wake.wait()

    def tell(self, error: Exception) -> None:
        """Say, once until all is sent again, why MLflow does not get the numbers."""
        with self._telling:
            self._trouble = error
            if self._told is not None:
                return
            self._told = self._rows
        now, until = _state(error)
        self._say(
            f" {now} ({reason(error)}): numbers are kept in {self.spool.path} and sent when it "
            f"{until}"
        )

    def _deliver(self) -> None:
        """Everything that is in the spool; raises what MLflow raises."""
        if self.run_id is None:
            self.client, run_id = self.connect()
            sent = self.spool.sent()
            if sent is None or sent.run_id != run_id:
                # A database of its own, or a folder that does not know what it has sent.
                self.spool.note(Sent(run_id, 0, known_steps(self.client, run_id)))
            self.run_id = run_id
        self.first.set()
        sent = self.spool.sent()
        assert sent is not None
        for batch, end in _batches(self.spool.entries(sent.bytes)):
            if "status" in batch[0]:
                self._send_status(batch[0])
            else:
                self._send_rows([e for e in batch if e["step"] > sent.known.get(e["group"], -1)])
            self.spool.note(sent._replace(bytes=end))

    def _send_rows(self, rows: list[dict]) -> None:
        from mlflow.entities import Metric

        metrics = [
            Metric(
                f"{row['group']}/{name.replace('@', '_at_')}",  # MLflow does not allow it
                value,
                row["ms"],
                row["step"],
                row.get("model_id") if row.get("run_id") == self.run_id else None,
            )
            for row in rows
            for name, value in row["values"].items()
        ]
        if metrics:
            self.client.log_batch(self.run_id, metrics=metrics, synchronous=True)
        self._rows += len(rows)

    def _send_status(self, entry: dict) -> None:
        if entry["status"] == "RUNNING":
            self.client.update_run(self.run_id, status="RUNNING")
        else:
            self.client.set_terminated(self.run_id, entry["status"], entry["ms"])

    def _say(self, what: str) -> None:
        print(f"MLflow at {self.place}{what}", file=sys.stderr, flush=True)


def _state(error: Exception) -> tuple[str, str]:
    """What MLflow does while this error lasts, and what it does afterwards."""
    if is_away(error):
        return "cannot be reached", "is back"
    if explain(error) is not None:
        return "cannot be told", "can be"  # the disk here is full
    return "refuses", "takes them"


def _batches(entries: Iterator[tuple[dict, int]]) -> Iterator[tuple[list[dict], int]]:
    """Rows of at most AT_ONCE numbers together, or a status alone; with the byte after the last.

    A row stays whole: what MLflow has of a curve is told by its last step.
    """
    batch: list[dict] = []
    numbers = end = 0
    for entry, after in entries:
        if not entry:
            continue  # damaged
        more = len(entry.get("values", ()))
        if batch and ("status" in entry or "status" in batch[0] or numbers + more > AT_ONCE):
            yield batch, end
            batch, numbers = [], 0
        batch.append(entry)
        numbers, end = numbers + more, after
    if batch:
        yield batch, end
