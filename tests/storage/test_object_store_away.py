"""An object store that takes no connection."""

import socket
import time
from contextlib import ExitStack

import pytest

from rhs.errors import UserError
from rhs.storage.object_store import S3_OPTIONS, ObjectStore


def test_an_object_store_that_takes_no_connection_is_given_up_soon(monkeypatch):
    """A firewall that drops packets, as a full queue of connections does."""
    monkeypatch.setitem(S3_OPTIONS["config_kwargs"], "connect_timeout", 0.2)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, ExitStack() as waiting:
        for _ in range(3):
            client = waiting.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(server.getsockname())
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
        start = time.monotonic()
        with pytest.raises(UserError, match=r"cannot be used .*timeout"):
            ObjectStore("s3://bucket/folder").check()
        assert time.monotonic() - start < 30
