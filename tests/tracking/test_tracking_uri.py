"""A database is where its address says, whatever its folder is called."""

import sqlite3
from pathlib import Path

import mlflow
import pytest
from mlflow_away import MANIFEST, begin, losses, numbers, rows, the_run
from nasty import NAMES

from rhs.tracking.tracker import tracked
from rhs.tracking.tracking_uri import database_file, database_uri, tracking_uri


@pytest.mark.parametrize("name", NAMES)
def test_the_file_of_an_address(name, tmp_path, monkeypatch):
    file = tmp_path / name / "mlflow.db"
    assert database_file(database_uri(file)) == file
    file.parent.mkdir()
    monkeypatch.chdir(file.parent)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert database_file(tracking_uri()) == file
    from sqlalchemy import create_engine

    engine = create_engine(tracking_uri())
    engine.connect().close()
    engine.dispose()
    assert file.is_file()


@pytest.mark.parametrize("name", ["My%20Repo", "a#1 (2)?é;"])
def test_mlflow_records_in_a_folder_of_any_name(
    params, tmp_path, tmp_path_factory, monkeypatch, name
):
    project = tmp_path / name
    project.mkdir()
    run = begin(project, tmp_path_factory, monkeypatch)
    with tracked(params, run, MANIFEST) as tracker:
        tracker.steps(rows(1, 3))
        (project / "report").mkdir()
        (project / "report" / "100%.txt").write_text("x")
        tracker.artifacts(project / "report", "report")
    assert numbers(project / "mlflow.db", "step/loss") == losses(3)
    found = the_run(tracker.uri)
    assert found.info.status == "FINISHED"
    (kept,) = (project / "mlartifacts").rglob("100%.txt")
    got = mlflow.artifacts.download_artifacts(
        run_id=found.info.run_id, artifact_path="report/100%.txt", tracking_uri=tracker.uri
    )
    assert Path(got).read_text() == kept.read_text() == "x"
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_addresses_that_people_write(tmp_path, monkeypatch):
    (tmp_path / "My%20Repo").mkdir()
    monkeypatch.chdir(tmp_path / "My%20Repo")
    file = tmp_path / "My%20Repo" / "other.db"
    for given in ("sqlite:///other.db", f"sqlite:///{file}", database_uri(file)):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", given)
        assert database_file(tracking_uri()) == file
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///a%20b.db?timeout=5")
    assert database_file(tracking_uri()) == tmp_path / "My%20Repo" / "a b.db"
    assert tracking_uri().endswith("?timeout=5")
    for other in ("http://tracking:5000", "postgresql://me@host/db", "databricks"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", other)
        assert tracking_uri() == other
        assert database_file(other) is None


def test_ordinary_addresses_stay_as_they_are(tmp_path):
    assert database_uri(Path("/srv/rhs/mlflow.db")) == "sqlite:////srv/rhs/mlflow.db"
    with sqlite3.connect(tmp_path / "x.db"):
        assert database_file(f"sqlite:///{tmp_path}/x.db") == tmp_path / "x.db"
