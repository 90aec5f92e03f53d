"""One writer at a time: in a folder, in an object store, and after one that was killed."""

import os
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import filelock
import pytest
from s3_server import BUCKET, s3_server

from rhs.errors import UserError
from rhs.storage.lease import LEASE, OWNER, exclusive, is_owner
from rhs.storage.store import FolderStore, open_store

ROOT = Path(__file__).parents[1]
BEAT, SILENCE = 0.1, 1.5

PROCESS = f"""
import sys
from rhs.storage.lease import exclusive
from rhs.storage.store import open_store
with exclusive(open_store(sys.argv[1]), "run x", {BEAT}, {SILENCE}) as owner:
    print(owner, flush=True)
    sys.stdin.readline()
"""


@pytest.fixture(scope="module")
def s3():
    with s3_server() as address:
        yield address


@pytest.fixture(params=["folder", "memory"])
def store(request, tmp_path):
    where = tmp_path if request.param == "folder" else f"memory://{uuid.uuid4().hex}"
    return open_store(where)


@pytest.fixture
def without_locks(monkeypatch):
    """As on a file system that has none."""

    def acquire(self, **_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(filelock.FileLock, "acquire", acquire)


def hold(store):
    return exclusive(store, "run x", BEAT, SILENCE)


def process(store) -> subprocess.Popen:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [sys.executable, "-c", PROCESS, store.location]
    return subprocess.Popen(command, cwd=ROOT, text=True, **pipes)


def refusal(store) -> str:
    with pytest.raises(UserError) as caught, hold(store):
        pass
    return str(caught.value)


def wait_until(true, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_the_second_is_refused_and_the_first_goes_on(store):
    with hold(store) as owner:
        assert is_owner(store, owner)
        said = refusal(store)
        assert said.startswith(f"run x is in use by process {os.getpid()} on ")
        assert said.endswith(" UTC: wait for it, or stop it, then run the same command.")
        assert is_owner(store, owner)


def test_it_is_free_after_the_end_however_that_came(store):
    owners = []

    def fail() -> None:
        with hold(store) as owner:
            owners.append(owner)
            raise ZeroDivisionError

    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            fail()
        assert store.names() == []
    start = time.monotonic()
    with hold(store) as owner:
        assert time.monotonic() - start < SILENCE
        owners.append(owner)
        assert [is_owner(store, o) for o in owners] == [False, False, True]
    assert not is_owner(store, owner)


def test_another_process_holds_a_folder_and_is_killed(tmp_path):
    store = FolderStore(tmp_path / "runs" / "x")
    other = process(store)
    try:
        first = other.stdout.readline().strip()
        assert is_owner(store, first)
        assert f"by process {other.pid} on " in refusal(store)
        assert is_owner(store, first)
    finally:
        other.kill()
    other.communicate(timeout=20)
    start = time.monotonic()
    with hold(store) as owner:
        assert time.monotonic() - start < SILENCE / 2
        assert is_owner(store, owner)
        assert not is_owner(store, first)


def test_another_process_holds_an_object_store_and_is_killed(s3, capsys):
    store = open_store(f"{BUCKET}/{uuid.uuid4().hex}")
    other = process(store)
    try:
        first = other.stdout.readline().strip()
        assert f"by process {other.pid} on " in refusal(store)
        assert is_owner(store, first)
    finally:
        other.kill()
    other.communicate(timeout=20)
    capsys.readouterr()
    start = time.monotonic()
    with hold(store) as owner:
        assert SILENCE <= time.monotonic() - start < 5 * SILENCE
        assert is_owner(store, owner)
        assert not is_owner(store, first)
    waited, taken = capsys.readouterr().out.splitlines()
    assert waited.startswith(f"run x may still be trained by process {other.pid} on ")
    assert waited.endswith(f": waiting {SILENCE} s for a sign of it")
    assert taken == "run x: no sign, so it is taken over"


def test_one_that_ends_while_watched_makes_room(capsys):
    store = open_store(f"memory://{uuid.uuid4().hex}")
    store.write(LEASE, b"{}")
    threading.Timer(0.2, store.delete, [LEASE]).start()
    start = time.monotonic()
    with hold(store) as owner:
        assert 0.2 <= time.monotonic() - start < SILENCE
        assert is_owner(store, owner)
    assert "another process" in capsys.readouterr().out


def test_two_at_once(monkeypatch):
    store = open_store(f"memory://{uuid.uuid4().hex}")
    together, holders, refusals = threading.Barrier(2), [], []
    write = store.write

    def begin() -> None:
        try:
            with hold(store) as owner:
                time.sleep(3 * BEAT)
                holders.append(is_owner(store, owner))
        except UserError as error:
            refusals.append(str(error))

    def both_have_looked(name: str, data: bytes) -> None:
        if name == OWNER:
            together.wait(timeout=10)
        write(name, data)

    monkeypatch.setattr(store, "write", both_have_looked)
    threads = [threading.Thread(target=begin) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert holders == [True]
    assert len(refusals) == 1


def test_who_was_taken_over_notices_and_lets_go(capsys):
    store = open_store(f"memory://{uuid.uuid4().hex}")
    with hold(store) as owner:
        store.write(OWNER, b"process 7 on moon since then (1)")
        store.write(LEASE, b"theirs")
        assert not is_owner(store, owner)
        time.sleep(3 * BEAT)
        assert store.read(LEASE) == b"theirs"
    assert store.names() == [LEASE, OWNER]
    assert capsys.readouterr().out == "run x was taken over by process 7 on moon since then\n"


def test_a_store_that_is_away_for_a_while_ends_nothing(monkeypatch, capsys):
    store = open_store(f"memory://{uuid.uuid4().hex}")

    def away(*_):
        raise OSError("the store is away")

    with hold(store) as owner:
        with monkeypatch.context() as patch:
            patch.setattr(store, "read", away)
            with pytest.raises(OSError, match="away"):
                is_owner(store, owner)
            time.sleep(4 * BEAT)
        before = store.read(LEASE)
        wait_until(lambda: store.read(LEASE) != before)
    said = capsys.readouterr().out
    assert said == "run x: its lease cannot be renewed for now (the store is away)\n"
    assert store.names() == []


def test_away_at_the_end_keeps_what_happened(monkeypatch):
    store = open_store(f"memory://{uuid.uuid4().hex}")

    def away(*_):
        raise OSError("the store is away")

    def fail() -> None:
        with hold(store):
            monkeypatch.setattr(store, "read", away)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()


def test_a_folder_without_locks_has_a_lease(without_locks, tmp_path):
    with hold(tmp_path) as owner:
        assert {LEASE, OWNER} <= set(os.listdir(tmp_path))
        assert "is in use by" in refusal(FolderStore(tmp_path))
        assert is_owner(FolderStore(tmp_path), owner)
    with hold(tmp_path):
        pass


def test_a_place_that_cannot_be_written(tmp_path, s3):
    (tmp_path / "file").write_text("")
    said = refusal(FolderStore(tmp_path / "file" / "run"))
    assert f"cannot be kept in {tmp_path}/file/run" in said
    assert "s3://no-such-bucket/x" in refusal(open_store("s3://no-such-bucket/x"))
