"""The mailbox of a run in Ray: in order, once, and through a head that does not answer."""

import pickle

import pytest

from rhs.distributed import mailbox as module
from rhs.distributed.mailbox import SHUTDOWN_SECONDS, RemoteMailbox
from rhs.errors import UserError


class Store:
    """Stands for that of Ray's head, which may not answer."""

    def __init__(self):
        self.kept: dict[bytes, bytes] = {}
        self.away: set[str] = set()

    def _answers(self, what: str, space: bytes, timeout: float) -> None:
        from ray.exceptions import RpcError

        assert (space, timeout) == (b"rhs", SHUTDOWN_SECONDS)
        if what in self.away:
            raise RpcError("no answer")

    def internal_kv_put(self, key, value, overwrite, *how):
        self._answers("put", *how)
        self.kept[key] = value

    def internal_kv_get(self, key, *how):
        self._answers("get", *how)
        return self.kept[key]

    def internal_kv_keys(self, prefix, *how):
        self._answers("keys", *how)
        return [key for key in reversed(self.kept) if key.startswith(prefix)]

    def internal_kv_exists(self, key, *how):
        self._answers("exists", *how)
        return key in self.kept

    def internal_kv_del(self, key, by_prefix, *how):
        self._answers("del", *how)
        for found in [k for k in self.kept if k == key or (by_prefix and k.startswith(key))]:
            del self.kept[found]


@pytest.fixture
def store(monkeypatch):
    made = Store()
    monkeypatch.setattr(module, "_store", lambda: made)
    return made


def elsewhere(mailbox: RemoteMailbox) -> RemoteMailbox:
    return pickle.loads(pickle.dumps(mailbox))


def test_a_mailbox_in_ray_keeps_the_order_and_ends_empty(store):
    mailbox, other = RemoteMailbox(), RemoteMailbox()
    first = elsewhere(mailbox)
    said = [("epoch", {"loss": float(f"0.{number}1")}) for number in range(12)]
    for kind, what in said:
        first.put(kind, what)
    second = elsewhere(mailbox)  # a worker that replaces it
    second.put("training", None)
    other.put("line", "of another run")
    assert mailbox.take() == [*said, ("training", None)]
    assert mailbox.take() == []
    assert not second.is_stopping()
    mailbox.stop()
    assert second.is_stopping()
    assert not other.is_stopping()
    second.put("line", "too late")
    mailbox.close()
    assert other.take() == [("line", "of another run")]
    assert store.kept == {}


def test_a_head_that_does_not_answer_for_a_while_loses_no_message(store):
    mailbox = RemoteMailbox()
    worker = elsewhere(mailbox)
    worker.put("line", "one")
    store.away = {"get"}
    assert mailbox.take() == []
    store.away = {"del"}
    assert mailbox.take() == [("line", "one")]
    assert mailbox.take() == []  # not twice
    store.away = {"exists", "put", "del"}
    assert not worker.is_stopping()
    mailbox.stop()
    mailbox.close()
    store.away = {"keys"}
    mailbox.heard -= SHUTDOWN_SECONDS
    with pytest.raises(UserError, match=r"not answered for 30 s .*; the same command|continues"):
        mailbox.take()
