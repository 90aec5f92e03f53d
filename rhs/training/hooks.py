"""Where a run's lines and numbers go, and who may end it: the loop knows no Ray and no MLflow."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class RunHooks:
    """What is called while a run trains.

    Attributes:
        report: takes each epoch's numbers, on every rank.
        say: takes lines for a person to read.
        record: takes the numbers of steps, on every rank; evenly spaced ones of a long epoch.
        stopping: whether to end early, asked after each step on rank 0; what was done is saved.
    """

    report: Callable[[dict], None] = lambda row: None
    say: Callable[[str], None] = lambda line: None
    record: Callable[[list[dict[str, float]]], None] | None = None
    stopping: Callable[[], bool] = lambda: False
