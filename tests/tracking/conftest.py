"""What the tests of MLflow share."""

import pytest
from mlflow_away import begin
from tiny_project import composed


@pytest.fixture(scope="module")
def params():
    return composed("method=npair")


@pytest.fixture
def run(tmp_path, tmp_path_factory, monkeypatch):
    """A run in a project folder of its own, with an empty database."""
    return begin(tmp_path, tmp_path_factory, monkeypatch)
