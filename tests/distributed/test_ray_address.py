"""Which Ray cluster is meant, and one that is not there: a sentence, soon."""

import socket
import threading
import time

import pytest
from tiny_project import cluster_config

from rhs.distributed import ray_address as module
from rhs.distributed import ray_cluster
from rhs.distributed.ray_address import SETTINGS, address_of, check_answer
from rhs.errors import UserError


@pytest.mark.parametrize(
    ("given", "variable", "found"),
    [
        (None, None, None),
        (None, "", None),
        (None, "  ", None),
        ("", " local ", None),
        ("local", "head:6379", None),
        ("auto", "local", None),
        (None, "head:6379", ("head:6379", "RAY_ADDRESS")),
        (None, " 10.0.0.1:6379 ", ("10.0.0.1:6379", "RAY_ADDRESS")),
        ("auto", "head:6379", ("head:6379", "RAY_ADDRESS")),
        ("[::1]:6380", "head:6379", ("[::1]:6380", "cluster.address")),
        ("auto", "", ("auto", "cluster.address")),
        (None, "auto", ("auto", "RAY_ADDRESS")),
        ("auto", "auto", ("auto", "cluster.address")),
    ],
)
def test_the_address(monkeypatch, given, variable, found):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if variable is not None:
        monkeypatch.setenv("RAY_ADDRESS", variable)
    assert address_of(given) == found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("http://head.example:8265", "head.example:6379, or run it on this machine alone"),
        ("HTTPS://head/ray", "`ray job submit`"),
        ("ray://127.0.0.1:10001", "an address of Ray Client"),
        ("garbage", "accepted: HOST:PORT"),
        ("head", "accepted: HOST:PORT"),
        ("head:", "accepted: HOST:PORT"),
        ("head:80", "accepted: HOST:PORT"),
        ("head:99999", "accepted: HOST:PORT"),
        ("a b:6379", "accepted: HOST:PORT"),
        ("k8s://head:6379", "accepted: HOST:PORT"),
        (":6379", "accepted: HOST:PORT"),
    ],
)
def test_what_is_no_address(monkeypatch, text, said):
    import ray

    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("Ray was started"))
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    for name in ("RAY_ADDRESS", "cluster.address"):
        monkeypatch.setenv("RAY_ADDRESS", text if name == "RAY_ADDRESS" else "")
        given = text if name == "cluster.address" else None
        with pytest.raises(UserError) as caught:
            ray_cluster.connect(cluster_config(address=given))
        assert str(caught.value).startswith(f"{name} is ")
        assert text in str(caught.value)
        assert said in str(caught.value)


@pytest.mark.parametrize("given", [5, True, 6379.0, ["head:6379"], {"host": "head"}])
def test_an_address_that_is_no_text(given):
    with pytest.raises(UserError, match=r"^cluster\.address is .*; accepted: null, HOST:PORT"):
        address_of(given)


@pytest.fixture
def answering():
    """Makes a server that sends these bytes to whoever connects, and then waits."""
    servers = []

    def make(data: bytes) -> str:
        server = socket.create_server(("127.0.0.1", 0))
        servers.append(server)

        def serve() -> None:
            connection, _ = server.accept()
            servers.append(connection)
            connection.sendall(data)

        threading.Thread(target=serve, daemon=True).start()
        return f"127.0.0.1:{server.getsockname()[1]}"

    yield make
    for server in servers:
        server.close()


def test_a_cluster_answers(answering):
    check_answer(answering(bytes([0, 0, 0, SETTINGS, 0, 0, 0, 0, 0])), "RAY_ADDRESS")


@pytest.mark.parametrize("data", [b"HTTP/1.1 400 Bad Request\r\n", b"SSH-2.0-OpenSSH", b""])
def test_something_else_answers_or_nothing(answering, monkeypatch, data):
    monkeypatch.setattr(module, "PATIENCE", 0.3)
    where, start = answering(data), time.monotonic()
    with pytest.raises(UserError, match=f"No Ray cluster .* at {where}, which is RAY_ADDRESS"):
        check_answer(where, "RAY_ADDRESS")
    assert time.monotonic() - start < 5


def test_nobody_is_there():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    for host in ("127.0.0.1", "no-such-host.invalid"):
        with pytest.raises(UserError, match=r"correct the address, or run on this machine alone"):
            check_answer(f"{host}:{port}", "cluster.address")


def test_a_cluster_of_another_version_is_a_sentence(monkeypatch):
    import ray

    def init(**_):
        raise RuntimeError("Version mismatch: The cluster was started with:\n    Ray: 1.0\n")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray_cluster, "check_answer", lambda *_: None)
    with pytest.raises(UserError, match=r"\(Version mismatch: The cluster was started with: Ray"):
        ray_cluster.connect(cluster_config(address="head:6379"))


@pytest.mark.parametrize("mode", ["", "garbage", "1", "tokens"])
def test_a_mode_of_authentication_that_ray_does_not_know(monkeypatch, mode):
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("Ray was started"))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_AUTH_MODE", mode)
    with pytest.raises(UserError, match=r"^RAY_AUTH_MODE is .*; accepted: token, disabled\.$"):
        ray_cluster.connect(cluster_config())


def test_a_cluster_that_lets_nobody_in_is_a_sentence(monkeypatch):
    import ray

    def init(**_):
        raise ConnectionError("Failed to connect to Ray cluster at 10.0.0.1:6379")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray_cluster, "check_answer", lambda *_: None)
    monkeypatch.setenv(module.TRIES, "1")
    with pytest.raises(UserError, match=r"head:6379, which is cluster.address \(it lets .*TOKEN"):
        ray_cluster.connect(cluster_config(address="head:6379"))


def test_a_cluster_that_was_started_here_and_is_gone(monkeypatch, tmp_path):
    """Ray remembers the last one, and would wait for it."""
    import ray
    from ray._private import services, utils

    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("Ray was started"))
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(services, "find_gcs_addresses", set)
    monkeypatch.setenv("RAY_ADDRESS", " ")
    for known, said in ((None, "none runs on this machine"), ("127.0.0.1:1024", "refused")):
        monkeypatch.setattr(utils, "read_ray_address", lambda _, known=known: known)
        monkeypatch.setattr(services, "resolve_ip_for_localhost", lambda host: host)
        with pytest.raises(UserError, match=f"which is cluster.address .*{said}"):
            ray_cluster.connect(cluster_config(address="auto"))
