"""An MLflow that comes and goes: its real HTTP server within this process, and its database."""

import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from rhs.run import Run

MANIFEST = {"dataset": "glyphs", "digest": "0123456789abcdef" * 4}


@lru_cache
def empty_database(base: Path) -> Path:
    """Of the whole test run: making its tables takes seconds, copying it nothing.

    Args:
        base: folder of the test run, `tmp_path_factory.getbasetemp()`.
    """
    from mlflow import MlflowClient

    file = base / "empty_mlflow.db"
    MlflowClient(f"sqlite:///{file}").search_experiments()
    return file


def begin(folder: Path, factory, monkeypatch) -> Run:
    """A run in the project folder `folder`, which is entered and has an empty database."""
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr("rhs.tracking.delivery.FIRST_WAIT", 0.05)
    monkeypatch.setattr("rhs.tracking.delivery.LONGEST_WAIT", 0.1)
    shutil.copy(empty_database(factory.getbasetemp()), folder / "mlflow.db")
    return Run("glyphs-npair-convnet-12345678", folder / "runs" / "glyphs-npair")


def eventually(true: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)


def numbers(database: Path, key: str) -> list[tuple[int, float]]:
    """(step, value) of a metric in the order in which they came; raw: duplicates would show."""
    with sqlite3.connect(database) as connection:
        query = "SELECT step, value FROM metrics WHERE key = ? ORDER BY rowid"
        return connection.execute(query, (key,)).fetchall()


def the_run(uri: str):
    """The only one that MLflow has."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    (found,) = client.search_runs([each.experiment_id for each in client.search_experiments()])
    return found


def rows(first: int, last: int) -> list[dict]:
    """Numbers of steps, and below, what MLflow is to have of them."""
    return [{"step": i, "loss": 1 / i, "effective_rank": 2.0 * i} for i in range(first, last + 1)]


def losses(last: int) -> list[tuple[int, float]]:
    return [(i, 1 / i) for i in range(1, last + 1)]


class Server:
    """MLflow's own server on one port of 127.0.0.1; `stop` and `start` it as often as wanted.

    Attributes:
        lose: how many calls of log-batch are carried out, but answered with status 503.
        calls: of log-batch so far.
        silent: while set, calls of any kind get no answer.
        die_after: calls of log-batch after which the server stops by itself.
    """

    def __init__(self, database: Path, artifacts: Path):
        from mlflow.server import app, handlers

        self.database, self.app, self.port = database, app, 0
        uri = f"sqlite:///{database}"
        # The application keeps its store for the life of the process.
        handlers._tracking_store = handlers._model_registry_store = None
        handlers.initialize_backend_stores(uri, uri, artifacts.as_uri())
        self.server = None
        self.lose = self.calls = 0
        self.silent = False
        self.die_after: int | None = None
        self.start()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        from werkzeug.serving import WSGIRequestHandler, make_server

        class Quiet(WSGIRequestHandler):
            def log(self, *args: object) -> None:
                pass

        self.server = make_server(
            "127.0.0.1", self.port, self, threaded=True, request_handler=Quiet
        )
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        self.silent = False
        if self.server is not None:
            self.server.shutdown()
            self.server.server_close()
            self.server = None  # its port is free

    def __call__(self, environ: dict, start_response: Callable) -> Iterable[bytes]:
        while self.silent:
            time.sleep(0.02)
        if not environ["PATH_INFO"].endswith("log-batch"):
            return self.app(environ, start_response)
        if self.calls == self.die_after:
            self.stop()
        if self.server is None:
            start_response("503 Service Unavailable", [])
            return []
        self.calls += 1
        if self.lose:
            self.lose -= 1
            list(self.app(environ, lambda *_: None))
            start_response("503 Service Unavailable", [])
            return []
        return self.app(environ, start_response)


class Answering:
    """A server that answers everything with one status."""

    def __init__(self, status: int):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.end_headers()

            do_POST = do_GET

            def log_message(self, *args: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def __enter__(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
