"""What a rank does in the test of ranks that are too many; the pool's processes import this."""

from pathlib import Path
from types import SimpleNamespace

from rank_jobs import train_until

from rhs.distributed import collectives
from rhs.training import worker


def first_of(count: int) -> tuple[bool, int]:
    """Whether this rank works with the first `count`, and how many do."""
    try:
        return collectives.use_first_ranks(count), collectives.world_size()
    finally:
        collectives._group = None  # the pool's processes go on to other tests


def train_or_leave(params: dict, shards: Path, checkpoints: Path) -> tuple[bool, bool, list[str]]:
    """A worker's part in a run: whether it joins, whether it came through, and the lines it said.

    A rank that is too many returns while the others still train.
    """
    lines: list[str] = []
    mailbox = SimpleNamespace(put=lambda kind, what: lines.append(what))
    try:
        if not worker._joins(params, mailbox):
            return False, False, lines
        done, said = train_until(params, shards, checkpoints)
        return True, done, lines + said
    finally:
        collectives._group = None
