"""The lock on one entry of the cache: the first process of a machine makes it, others wait."""

from pathlib import Path

from filelock import FileLock

from rhs.errors import UserError, is_disk_full
from rhs.storage.locks import locked


def lock_cache(cache: Path, name: str, doing: str, otherwise: str = "") -> FileLock:
    """The lock on `cache`/`name`, held; `cache` is made, readable by its owner alone.

    Args:
        doing: what the other process does, see `locked`.
        otherwise: what a user may do instead of choosing another folder.

    Raises:
        UserError: nothing can be written in `cache`.
        OSError: the disk is full.
    """
    try:
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        return locked(cache / f".{name}.lock", doing)
    except OSError as error:
        if is_disk_full(error):
            raise
        raise UserError(
            f"cluster.cache_folder {cache} cannot be written ({error.strerror}): choose another "
            f"one{otherwise}."
        ) from error
