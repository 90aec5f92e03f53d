"""Work of Ray's workers that is done again where one of them is lost."""

from collections.abc import Callable, Mapping
from itertools import count
from typing import Any, TypeVar, cast

from rhs.errors import UserError

Result = TypeVar("Result")


def survived(work: Callable[[], Result], cluster: Mapping[str, Any], what: str) -> Result:
    """What `work` returns, which is called again after each worker that it loses.

    Args:
        cluster: the group of that name: `max_failures`, how often; -1: without end.
        what: the workers do, for the lines that tell of it.

    Raises:
        UserError: more workers were lost.
    """
    most = cluster["max_failures"]
    for lost in count(1):
        done, reason = _tried(work)
        if reason is None:
            return cast(Result, done)
        if 0 <= most < lost:
            raise UserError(
                f"{what}: workers were lost more often than cluster.max_failures = {most} allows, "
                f"the last time so: {reason}"
            )
        print(f"{what}: a worker was lost, its work is done again ({reason})", flush=True)
    raise AssertionError("count() does not end")


def _tried(work: Callable[[], Result]) -> tuple[Result | None, str | None]:
    """What it returns, or how it lost a worker."""
    try:
        return work(), None
    except Exception as error:
        if (reason := _loss(error)) is None:
            raise
        return None, reason


def _loss(error: Exception) -> str | None:
    """How a worker of Ray's was lost; None for another error."""
    from ray import exceptions

    lost = (
        exceptions.RayActorError,
        exceptions.WorkerCrashedError,
        exceptions.OutOfMemoryError,
        exceptions.NodeDiedError,
        exceptions.ObjectLostError,
    )
    # A worker that cannot even be made would not be the next time.
    if not isinstance(error, lost) or getattr(error, "actor_init_failed", False):
        return None
    told = str(error).strip().splitlines()
    return told[0] if told else type(error).__name__
