"""Retries work when a Ray worker dies."""

from collections.abc import Callable
from itertools import count
from typing import TypeVar

from rhs.distributed.worker_deaths import death, describe_death
from rhs.errors import UserError

Result = TypeVar("Result")


def retry_lost_workers(work: Callable[[], Result], most: int, what: str, less: str) -> Result:
    """What `work` returns, which is called again after each worker that it loses.

    Args:
        most: `cluster.max_failures`: how often; -1: without end.
        what: the workers do, for the lines that tell of it.
        less: what would need less memory, for the last line.

    Raises:
        UserError: more workers were lost.
    """
    for lost in count(1):
        try:
            return work()
        except Exception as error:  # noqa: PERF203
            if (how := death(error)) is None:
                raise
            if 0 <= most < lost:
                raise UserError(
                    f"{what}: workers were lost more often than cluster.max_failures = {most} "
                    f"allows, the last one so: {describe_death(error, less)}. The same "
                    "command continues."
                ) from error
            print(f"{what}: a worker was lost, its work is done again ({how})", flush=True)
    raise AssertionError("count() does not end")
