"""The one sentence on an error that a user can mend."""

import sys
from pathlib import Path

from rhs.distributed.worker_deaths import death, describe_death
from rhs.errors import UserError, is_disk_full


def explain(error: BaseException) -> str | None:
    """The sentence for a user if `error`, or what caused it on a worker, is theirs to mend."""
    if isinstance(error, UserError):
        return str(error)
    if is_disk_full(error):
        where = getattr(error, "filename", None) or Path.cwd()
        return f"No space left on the disk that holds {where}: free some and run again."
    if "ray" in sys.modules and death(error):  # where nothing does the work again
        return (
            f"A process of Ray's was lost ({describe_death(error)}): the same command starts again."
        )
    # What a worker raised: Ray keeps it in `cause`, Ray Train in `worker_failures`, by rank.
    failures = getattr(error, "worker_failures", {}).values()
    causes = [getattr(error, "cause", None), error.__cause__, *failures]
    sentences = (explain(cause) for cause in causes if isinstance(cause, BaseException))
    return next((sentence for sentence in sentences if sentence is not None), None)
