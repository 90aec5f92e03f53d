"""What a run's workers say to the process that started it, and whether they are to stop."""

import json
import time
import uuid
from contextlib import suppress
from itertools import count
from typing import Any

from rhs.errors import UserError

AGAIN = "the same command continues"
SPACE = b"rhs"  # of names in the store of Ray's head
SHUTDOWN_SECONDS = 30.0  # seconds that an answer, or an end foretold, is waited for


class Mailbox:
    """Messages of the workers, and whether they are to stop."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, Any]] = []
        self.stopping = False

    def put(self, kind: str, what: Any) -> None:
        self.messages.append((kind, what))

    def take(self) -> list[tuple[str, Any]]:
        taken, self.messages = self.messages, []
        return taken

    def stop(self) -> None:
        self.stopping = True

    def is_stopping(self) -> bool:
        return self.stopping


class RemoteMailbox(Mailbox):
    """A Mailbox in the store of the running Ray's head (its GCS), for all processes of a run.

    It takes what JSON can say.

    No actor, which memory pressure would end first: what was put is there until it is taken.
    """

    def __init__(self) -> None:
        self.name = f"rhs-mailbox-{uuid.uuid4().hex}"
        self.sender: str | None = None  # of this process, which has put something
        self.numbers = count()
        self.taken: set[bytes] = set()
        self.heard = time.monotonic()

    def __reduce__(self) -> tuple:
        return _mailbox, (self.name,)

    def put(self, kind: str, what: Any) -> None:
        # In the order in which they sort; a process that replaces another begins later.
        self.sender = self.sender or f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}"
        key = f"{self.name}/said/{self.sender}/{next(self.numbers):012d}"
        message = json.dumps([kind, what]).encode()
        _store().internal_kv_put(key.encode(), message, True, SPACE, SHUTDOWN_SECONDS)

    def take(self) -> list[tuple[str, Any]]:
        """Raises UserError if the head has not answered for long."""
        import ray

        store, said = _store(), f"{self.name}/said/".encode()
        try:
            keys = sorted(set(store.internal_kv_keys(said, SPACE, SHUTDOWN_SECONDS)) - self.taken)
            found = [store.internal_kv_get(key, SPACE, SHUTDOWN_SECONDS) for key in keys]
        except ray.exceptions.RayError as error:
            if time.monotonic() - self.heard < SHUTDOWN_SECONDS:
                return []
            raise UserError(
                f"Ray's head has not answered for {SHUTDOWN_SECONDS:g} s (its process gcs_server "
                f"was killed, or its node is gone): {AGAIN} from the last checkpoint."
            ) from error
        self.heard = time.monotonic()
        self.taken.update(keys)  # even where they cannot be deleted now
        with suppress(ray.exceptions.RayError):
            for key in keys:
                store.internal_kv_del(key, False, SPACE, SHUTDOWN_SECONDS)
                self.taken.discard(key)
        return [tuple(json.loads(what)) for what in found if what is not None]

    def stop(self) -> None:
        import ray

        with suppress(ray.exceptions.RayError):  # the workers lose their head too
            _store().internal_kv_put(
                f"{self.name}/stop".encode(), b"", True, SPACE, SHUTDOWN_SECONDS
            )

    def is_stopping(self) -> bool:
        import ray

        try:
            return _store().internal_kv_exists(
                f"{self.name}/stop".encode(), SPACE, SHUTDOWN_SECONDS
            )
        except ray.exceptions.RayError:
            return False

    def close(self) -> None:
        """Delete what nobody has taken."""
        import ray

        with suppress(ray.exceptions.RayError):
            _store().internal_kv_del(self.name.encode(), True, SPACE, SHUTDOWN_SECONDS)


def _mailbox(name: str) -> RemoteMailbox:
    """The same mailbox in another process."""
    mailbox = RemoteMailbox()
    mailbox.name = name
    return mailbox


def _store() -> Any:
    from ray.exceptions import RaySystemError
    from ray.experimental.internal_kv import internal_kv_get_gcs_client

    if (store := internal_kv_get_gcs_client()) is None:
        raise RaySystemError("this process has left Ray")
    return store
