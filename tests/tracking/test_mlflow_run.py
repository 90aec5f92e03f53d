"""Which MLflow run a run's numbers go to, and which addresses are refused at once."""

import os
import shutil
import sqlite3
import time
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow_away import (
    MANIFEST,
    Answering,
    empty_database,
    losses,
    numbers,
    rows,
    the_run,
)

from rhs.errors import UserError
from rhs.tracking.tracker import QUIET, tracked

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload``")  # within MLflow


def test_a_fresh_folder_takes_up_the_run_that_mlflow_has(params, run, tmp_path):
    with tracked(params, run, MANIFEST) as first:
        first.steps(rows(1, 4))
        first.metrics({"loss": 0.5}, 4)
    shutil.rmtree(run.folder)
    with tracked(params, run, MANIFEST) as second:
        assert second.run_id == first.run_id
        second.steps(rows(1, 6))
        second.metrics({"loss": 0.5}, 4)
        second.metrics({"loss": 0.25}, 6)
    assert numbers(tmp_path / "mlflow.db", "step/loss") == losses(6)
    assert numbers(tmp_path / "mlflow.db", "train/loss") == [(4, 0.5), (6, 0.25)]


def test_another_database_gets_all_of_it(params, run, tmp_path, tmp_path_factory, monkeypatch):
    with tracked(params, run, MANIFEST) as tracker:
        tracker.steps(rows(1, 3))
    shutil.copy(empty_database(tmp_path_factory.getbasetemp()), tmp_path / "other.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///other.db")
    with tracked(params, run, MANIFEST) as elsewhere:
        pass
    assert elsewhere.uri == f"sqlite:///{tmp_path}/other.db"
    assert the_run(elsewhere.uri).info.status == "FINISHED"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with tracked(params, run, MANIFEST) as back:
        back.steps(rows(4, 4))
    assert back.run_id == tracker.run_id
    assert numbers(tmp_path / "other.db", "step/loss") == losses(3)
    assert numbers(tmp_path / "mlflow.db", "step/loss") == losses(4)


@pytest.mark.parametrize("remembered", [True, False])
def test_killed_while_the_run_is_created(params, run, monkeypatch, remembered):
    def dies(*_):
        raise mlflow.MlflowException("killed")

    with monkeypatch.context() as patch:
        patch.setattr("rhs.tracking.mlflow_run.describe", dies)
        with pytest.raises(UserError, match="killed"), tracked(params, run, MANIFEST):
            pass
    if not remembered:
        (run.folder / "mlflow_run_id").unlink()
    with tracked(params, run, MANIFEST) as tracker:
        pass
    assert the_run(tracker.uri).data.tags["data.digest"] == MANIFEST["digest"]


def test_a_run_deleted_in_mlflow_is_started_anew(params, run, capsys):
    with tracked(params, run, MANIFEST) as first:
        pass
    MlflowClient(first.uri).delete_run(first.run_id)
    with tracked(params, run, MANIFEST) as second:
        assert second.run_id != first.run_id
    assert f"MLflow run {first.run_id} is not in experiment" in capsys.readouterr().err


def refused(params, run) -> str:
    """The sentence; nothing is left behind."""
    before, start = dict(os.environ), time.monotonic()
    with pytest.raises(UserError) as told, tracked(params, run, MANIFEST):
        pass
    assert time.monotonic() - start < 10
    assert "\n" not in str(told.value)
    assert "set tracking=none" in str(told.value)
    assert "secret" not in str(told.value)
    assert dict(os.environ) == before | QUIET
    assert not run.folder.exists()
    return str(told.value)


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("/tmp/mlruns", "maintenance mode"),
        ("ftp://me:secret@somewhere", "unsupported URI"),
        ("sqlite:////nowhere/mlflow.db", "unable to open database file"),
        ("sqlite:///README.md", "file is not a database"),
        ("http://me:secret@some where", "Failed to parse"),
    ],
)
def test_an_address_that_never_works_is_one_sentence(params, run, monkeypatch, uri, why):
    Path("README.md").write_text("some text, certainly not a database of anything\n" * 30)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert why in refused(params, run)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_server_that_refuses_is_one_sentence(params, run, monkeypatch, status):
    with Answering(status) as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        assert f"error code {status}" in refused(params, run)


def test_a_deleted_experiment_is_one_sentence(params, run, tmp_path):
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    client.delete_experiment(client.create_experiment("glyphs"))
    assert "experiment 'glyphs' was deleted" in refused(params, run)


def test_a_server_that_is_not_up_yet_is_away(params, run, monkeypatch, capsys):
    with Answering(503) as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        with tracked(params, run, MANIFEST) as tracker:
            tracker.metrics({"loss": 1.0}, 1)
    assert tracker.run_id is None
    said = capsys.readouterr().err
    assert f"MLflow at {uri} cannot be reached (too many 503 error responses): numbers" in said
    assert tracker.spool.waiting() == 1


def test_a_locked_database_is_away_until_it_is_free(params, run, capsys):
    with sqlite3.connect("mlflow.db", isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        with tracked(params, run, MANIFEST) as tracker:
            tracker.metrics({"loss": 1.0}, 1)
            other.execute("ROLLBACK")
    assert the_run(tracker.uri).data.metrics == {"train/loss": 1.0}
    said = capsys.readouterr().err
    assert "cannot be reached (database is locked)" in said
    assert "is back: 1 rows sent" in said
    assert "Traceback" not in said
