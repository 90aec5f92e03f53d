"""MLflow says no, or nothing, in the middle of a stage, which ends well and keeps its scores."""

import errno
import sys
import threading
import time
import types
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import RestException
from mlflow_away import MANIFEST, Server, eventually, losses, numbers, rows
from sqlalchemy.exc import OperationalError

from pipelines.evaluate import track
from rhs.errors import UserError
from rhs.explain import explain
from rhs.tracking.delivery import Delivery
from rhs.tracking.mlflow_run import is_away
from rhs.tracking.spool import Sent, Spool
from rhs.tracking.tracker import IMPATIENT, TIMEOUT, tracked

pytestmark = [  # within MLflow
    pytest.mark.filterwarnings("ignore:The ``noload``"),
    pytest.mark.filterwarnings("ignore:starlette.middleware.wsgi"),
]
FORBIDDEN = RestException({"error_code": "PERMISSION_DENIED", "message": "no registry for you"})


def fails(monkeypatch, error: BaseException) -> None:
    def register(*_, **__):
        raise error

    monkeypatch.setattr("rhs.inference.mlflow_model.register", register)


def test_a_server_that_does_not_answer_holds_nothing_up(params, run, tmp_path, monkeypatch, capsys):
    server = Server(tmp_path / "mlflow.db", tmp_path / "mlartifacts")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    monkeypatch.setitem(IMPATIENT, TIMEOUT, "1")
    with tracked(params, run, MANIFEST) as tracker:
        eventually(lambda: tracker.spool.sent() is not None)
        server.silent, start = True, time.monotonic()
        release = threading.Timer(8, setattr, (server, "silent", False))
        release.start()
        tracker.artifacts(tmp_path, "report")
        assert time.monotonic() - start < 5
        release.cancel()
        server.silent = False
    server.stop()
    said = capsys.readouterr().err
    assert "cannot be reached (" in said
    assert f"{tmp_path} was not attached to the run" in said


def test_a_run_that_is_deleted_meanwhile(params, run, tmp_path, capsys):
    with tracked(params, run, MANIFEST) as tracker:
        eventually(lambda: tracker.spool.waiting() == 0 and tracker.run_id)
        MlflowClient(tracker.uri).delete_run(tracker.run_id)
        tracker.steps(rows(1, 2))
        track(tracker, params, {"val": {"recall@1": 0.5}}, tmp_path, b"")
    said = capsys.readouterr().err
    assert f"MLflow at {tracker.uri} refuses (" in said
    assert "must be in the 'active' state" in said
    assert "cannot be reached" not in said
    assert "is away" not in said
    assert "registers it when MLflow takes it; now it refuses it (" in said
    assert f"): 3 rows wait in {run.folder}/metrics.jsonl; the next stage" in said
    with tracked(params, run, MANIFEST):
        pass
    assert numbers(Path("mlflow.db"), "step/loss") == losses(2)
    assert numbers(Path("mlflow.db"), "val/recall_at_1") == [(0, 0.5)]


def test_a_registry_that_is_forbidden(params, run, tmp_path, monkeypatch, capsys):
    fails(monkeypatch, FORBIDDEN)
    with tracked(params, run, MANIFEST) as tracker:
        track(tracker, params, {"val": {"recall@1": 0.5}}, tmp_path, b"")
    assert numbers(Path("mlflow.db"), "val/recall_at_1") == [(0, 0.5)]
    assert "now it refuses it (PERMISSION_DENIED: no registry for you)" in capsys.readouterr().err


@pytest.mark.parametrize("error", [KeyError("x"), OSError(errno.ENOSPC, "No space left on device")])
def test_other_errors_are_not_hidden(params, run, tmp_path, monkeypatch, error):
    fails(monkeypatch, error)
    with pytest.raises(type(error)), tracked(params, run, MANIFEST) as tracker:
        track(tracker, params, {}, tmp_path, b"")


def test_a_full_disk_at_the_start_is_not_blamed_on_mlflow(params, run, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("rhs.tracking.tracker.open_run", full)
    with pytest.raises(OSError, match="No space left") as told, tracked(params, run, MANIFEST):
        pass
    assert explain(told.value).startswith("No space left on the disk")


def test_a_full_disk_later_is_not_blamed_on_mlflow(params, run, monkeypatch, capsys):
    with tracked(params, run, MANIFEST) as tracker:
        eventually(lambda: tracker.spool.waiting() == 0 and tracker.run_id)

        def full(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(Spool, "note", full)
            tracker.steps(rows(1, 1))
            eventually(lambda: tracker.delivery._trouble is not None)
    assert "cannot be told ([Errno 28] No space left on device): numbers" in capsys.readouterr().err


def test_closing_is_seen_while_it_is_being_woken(tmp_path):
    """`close` comes between the two things that a turn of the loop begins with."""
    delivery = Delivery(Spool(tmp_path), lambda: (None, "run"), "here")
    delivery.spool.note(Sent("run", 0, {}))

    class Wake(threading.Event):
        def clear(self) -> None:
            if delivery.first.is_set():
                delivery._closing.set()
                self.set()
            super().clear()

    delivery._wake = Wake()
    delivery.start()
    eventually(delivery.first.is_set)
    delivery.wake()
    delivery.join(3)
    assert not delivery.is_alive()


class _Refused(Exception):
    """What the driver of a database raises."""


@pytest.mark.parametrize(
    ("said", "away"),
    [
        ('FATAL:  password authentication failed for user "u"', False),
        ('FATAL:  database "mlflow" does not exist', False),
        ("(1045, \"Access denied for user 'u'@'h' (using password: YES)\")", False),
        ("(1049, \"Unknown database 'x'\")", False),
        ("could not connect to server: Connection refused", True),
        ("FATAL:  the database system is starting up", True),
        ("(1040, 'Too many connections')", True),
    ],
)
def test_what_the_server_of_a_database_says(said, away):
    assert is_away(OperationalError("SELECT 'access denied'", {}, _Refused(said))) is away


def test_a_wrong_password_of_a_database_is_one_sentence(params, run, monkeypatch):
    driver, start = types.ModuleType("pymysql"), time.monotonic()

    def connect(**_):
        raise driver.OperationalError(1045, "Access denied for user 'u'@'h'")

    driver.paramstyle, driver.connect = "pyformat", connect
    driver.Error = type("Error", (Exception,), {})
    for name in ("OperationalError", "ProgrammingError", "InterfaceError", "InternalError"):
        setattr(driver, name, type(name, (driver.Error,), {}))
    monkeypatch.setitem(sys.modules, "pymysql", driver)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "mysql+pymysql://u:wo/rd@h/x")
    with pytest.raises(UserError, match="Access denied") as told, tracked(params, run, MANIFEST):
        pass
    assert time.monotonic() - start < 10  # MLflow itself would try for 100 s
    assert "wo/rd" not in str(told.value)
