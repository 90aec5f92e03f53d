"""MLflow is away, dies, comes back, or the run is killed: every number arrives once, in order."""

import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress

import pytest
from mlflow import MlflowClient
from mlflow.tracking._tracking_service.utils import _artifact_repos_cache
from mlflow_away import MANIFEST, Server, begin, eventually, losses, numbers, rows, the_run
from tiny_project import composed

from pipelines.evaluate import track
from rhs.run import Run
from rhs.tracking.tracker import tracked

pytestmark = [  # within MLflow
    pytest.mark.filterwarnings("ignore:The ``noload``"),
    pytest.mark.filterwarnings("ignore:starlette.middleware.wsgi"),
]


@pytest.fixture(scope="module")
def params():
    return composed("method=npair")


@pytest.fixture
def run(tmp_path, tmp_path_factory, monkeypatch) -> Run:
    return begin(tmp_path, tmp_path_factory, monkeypatch)


@pytest.fixture
def server(run, tmp_path, monkeypatch):
    server = Server(tmp_path / "mlflow.db", tmp_path / "mlartifacts")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    yield server
    server.stop()


@pytest.fixture
def said(capsys):
    """What was written to stderr since the test began."""
    parts = []

    def read() -> str:
        parts.append(capsys.readouterr().err)
        return "".join(parts)

    return read


def test_away_at_start_then_back_then_dies_and_returns(server, params, run, said):
    server.stop()
    with tracked(params, run, MANIFEST) as tracker:
        assert tracker.run_id is None
        tracker.steps(rows(1, 3))
        tracker.metrics({"epoch": 1, "step": 3, "val_recall@1": 0.5}, 3)
        assert said() == (
            f"MLflow at {server.uri} cannot be reached ([Errno 111] Connection refused): numbers "
            f"are kept in {run.folder}/metrics.jsonl and sent when it is back\n"
        )
        server.start()
        eventually(lambda: tracker.spool.waiting() == 0)
        server.stop()
        tracker.steps(rows(4, 6))
        told = f"MLflow at {server.uri} is back: 4 rows sent\nMLflow at {server.uri} cannot be"
        eventually(lambda: told in said())
        server.start()
        tracker.steps(rows(7, 8))
    assert "is back: 5 rows sent" in said()
    assert said().count("\n") == 4
    assert numbers(server.database, "step/loss") == losses(8)
    assert numbers(server.database, "train/val_recall_at_1") == [(3, 0.5)]
    found = the_run(server.uri)
    assert found.info.status == "FINISHED"
    assert found.info.run_name == "npair-convnet-12345678"
    assert found.data.params["method.loss._target_"] == "rhs.methods.losses.npair.NPair"
    assert (run.folder / "mlflow_run_id").read_text().strip() == found.info.run_id


def test_it_dies_between_batches_and_answers_get_lost(server, params, run, monkeypatch):
    monkeypatch.setattr("rhs.tracking.delivery.AT_ONCE", 4)  # two rows
    with tracked(params, run, MANIFEST) as tracker:
        eventually(lambda: tracker.spool.waiting() == 0 and tracker.delivery.first.is_set())
        server.die_after = server.calls + 2
        tracker.steps(rows(1, 9))
        eventually(lambda: server.server is None)
        assert numbers(server.database, "step/loss") == losses(4)
        server.die_after, server.lose = None, 2
        server.start()
        eventually(lambda: tracker.spool.waiting() == 0)
    assert server.lose == 0
    assert numbers(server.database, "step/loss") == losses(9)
    assert numbers(server.database, "step/effective_rank") == [(i, 2.0 * i) for i in range(1, 10)]


def test_away_until_the_end_the_next_stage_sends(server, params, run, said):
    with tracked(params, run, MANIFEST) as tracker:
        tracker.steps(rows(1, 2))
        eventually(lambda: tracker.spool.waiting() == 0)
        server.stop()
        tracker.steps(rows(3, 5))
    assert said().endswith(
        f"is away: 3 rows wait in {run.folder}/metrics.jsonl; the next stage of this run, or the "
        "same command again, sends them\n"
    )
    server.start()
    assert the_run(server.uri).info.status == "RUNNING"
    with tracked(params, run, MANIFEST) as tracker:
        eventually(lambda: numbers(server.database, "step/loss") == losses(5))
        tracker.metrics({"recall@1": 0.5}, 0, "test")
    assert numbers(server.database, "test/recall_at_1") == [(0, 0.5)]
    assert the_run(server.uri).info.status == "FINISHED"


def test_away_files_are_left_out_and_the_stage_goes_on(server, params, run, tmp_path, said):
    server.stop()
    with tracked(params, run, MANIFEST) as tracker:
        track(tracker, params, {"val": {"recall@1": 0.5}}, tmp_path, b"")
    server.start()
    with tracked(params, run, MANIFEST):
        pass
    assert numbers(server.database, "val/recall_at_1") == [(0, 0.5)]
    with tracked(params, run, MANIFEST) as tracker:
        server.stop()
        _artifact_repos_cache.clear()  # where files go: MLflow asks the server only once
        assert tracker.register(tmp_path, lambda *_: "id") is None
        tracker.artifacts(tmp_path / "report", "report")
    command = "`python -m pipelines.evaluate` registers it when MLflow is back\n"
    assert said().count(f"{tmp_path} was not registered; {command}") == 2
    command = "`python -m pipelines.report` attaches it when MLflow is back\n"
    assert f"{tmp_path}/report was not attached to the run; {command}" in said()
    assert "Traceback" not in said()


@pytest.mark.parametrize("cursor", ["older", "absent", "torn"])
def test_killed_between_delivery_and_its_note(params, run, tmp_path, cursor):
    with tracked(params, run, MANIFEST) as tracker:
        tracker.steps(rows(1, 3))
        eventually(lambda: tracker.spool.waiting() == 0)
        before = tracker.spool.cursor.read_bytes()
        tracker.steps([*rows(4, 5), {"step": 6, "loss": float("nan")}])
        eventually(lambda: tracker.spool.waiting() == 0)
    left = {"older": before, "absent": None, "torn": before[:20]}[cursor]
    if left is None:
        tracker.spool.cursor.unlink()
    else:
        tracker.spool.cursor.write_bytes(left)
    with tracked(params, run, MANIFEST) as tracker:
        tracker.steps([{"step": 7, "loss": 1 / 7}])
    # SQLite's NaN: MLflow writes 0 and a flag.
    assert numbers(tmp_path / "mlflow.db", "step/loss") == [*losses(5), (6, 0.0), (7, 1 / 7)]


def test_killed_while_appending(params, run, tmp_path):
    with tracked(params, run, MANIFEST) as tracker:
        tracker.steps(rows(1, 3))
    with tracker.spool.path.open("a") as file:
        file.write('{"group": "step", "step": 4, "ms": 17')
    with tracked(params, run, MANIFEST) as tracker:
        tracker.steps(rows(3, 5))
    assert numbers(tmp_path / "mlflow.db", "step/loss") == losses(5)


def test_a_resumed_try_repeats_rows(params, run, tmp_path):
    with suppress(KeyboardInterrupt), tracked(params, run, MANIFEST) as tracker:
        tracker.steps(rows(1, 6))
        tracker.metrics({"loss": 0.5, "seconds": 3.0}, 5)
        raise KeyboardInterrupt
    assert the_run(tracker.uri).info.status == "KILLED"
    with tracked(params, run, MANIFEST) as tracker:
        tracker.steps(rows(4, 5))
        tracker.metrics({"loss": 0.5, "seconds": 4.0}, 5)
        tracker.steps(rows(6, 8))
    assert numbers(tmp_path / "mlflow.db", "step/loss") == losses(8)
    assert numbers(tmp_path / "mlflow.db", "train/seconds") == [(5, 3.0)]
    assert the_run(tracker.uri).info.status == "FINISHED"


def test_scores_that_come_again_replace_only_what_changed(params, run, tmp_path):
    for recall in (0.5, 0.5, 0.75):
        with tracked(params, run, MANIFEST) as tracker:
            tracker.metrics({"recall@1": recall}, 0, "test")
            tracker.metrics({"recall@1": 0.25}, 0, "val")
    assert numbers(tmp_path / "mlflow.db", "test/recall_at_1") == [(0, 0.5), (0, 0.75)]
    assert numbers(tmp_path / "mlflow.db", "val/recall_at_1") == [(0, 0.25)]
    assert the_run(tracker.uri).data.metrics["test/recall_at_1"] == 0.75


def test_scores_of_a_model_that_is_registered_later(params, run, tmp_path):
    with tracked(params, run, MANIFEST) as tracker:
        tracker.metrics({"recall@1": 0.5}, 0, "test")
    client = MlflowClient(tracker.uri)
    experiment = the_run(tracker.uri).info.experiment_id
    model = client.create_logged_model(experiment, source_run_id=tracker.run_id)
    for _ in range(2):
        with tracked(params, run, MANIFEST) as tracker:
            tracker.metrics({"recall@1": 0.5}, 0, "test", model.model_id)
    assert numbers(tmp_path / "mlflow.db", "test/recall_at_1") == [(0, 0.5)]
    (score,) = client.get_logged_model(model.model_id).metrics
    assert (score.key, score.value) == ("test/recall_at_1", 0.5)


@pytest.mark.slow
def test_a_server_of_its_own_is_killed_and_started_again(params, run, tmp_path, monkeypatch, said):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host=127.0.0.1",
        f"--port={port}",
        f"--backend-store-uri=sqlite:///{tmp_path}/mlflow.db",
        "--workers=1",
        f"--artifacts-destination={tmp_path}/mlartifacts",
    ]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")

    def sent() -> list[tuple[int, float]]:
        return numbers(tmp_path / "mlflow.db", "step/loss")

    with tracked(params, run, MANIFEST) as tracker:
        for last in (3, 6, 9):  # away at start, killed twice
            tracker.steps(rows(1, last))
            server = subprocess.Popen(command, **quiet)
            try:
                eventually(lambda n=last: sent() == losses(n), 90)
                eventually(lambda: tracker.spool.waiting() == 0)
            finally:
                os.killpg(server.pid, signal.SIGKILL)
                server.wait()
    assert "3 rows sent" in said()
    assert tracker.spool.waiting() == 0
    assert numbers(tmp_path / "mlflow.db", "step/loss") == losses(9)
