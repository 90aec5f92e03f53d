"""The use of the machine: each sample is of its own time, and MLflow is not needed for it."""

import sqlite3
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from mlflow_away import MANIFEST, begin, eventually, numbers
from tiny_project import composed

from rhs.tracking.system_metrics import sampled
from rhs.tracking.tracker import tracked

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload``")  # within MLflow


@pytest.fixture(autouse=True)
def _often(monkeypatch):
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.02")


@pytest.fixture
def run(tmp_path, tmp_path_factory, monkeypatch):
    return begin(tmp_path, tmp_path_factory, monkeypatch)


def test_a_sample_is_no_mean_of_earlier_ones(monkeypatch):
    fed = [55.0, 100.0, 100.0, 100.0, 0.0, 0.0]  # the first is of before the block
    left = iter(fed)
    monkeypatch.setattr(psutil, "cpu_percent", lambda: next(left, 7.0))
    samples = []
    with sampled(lambda values, step: samples.append((step, values))):
        eventually(lambda: len(samples) > len(fed))
    used = [values["cpu_utilization_percentage"] for _, values in samples]
    assert used[:6] == [100.0, 100.0, 100.0, 0.0, 0.0, 7.0]
    assert {"system_memory_usage_megabytes", "disk_usage_percentage"} <= set(samples[0][1])
    assert samples[-1][1]["network_receive_megabytes"] >= 0


def test_the_curve_goes_on_in_a_fresh_folder(run):
    began = time.time() * 1000
    for folder in ("one", "two"):
        here = replace(run, folder=run.folder / folder)
        with tracked(composed("method=npair"), here, MANIFEST, system=True) as tracker:
            path = tracker.spool.path
            eventually(lambda path=path: path.read_text().count('"system"') >= 2)
    steps = [s for s, _ in numbers(Path("mlflow.db"), "system/cpu_utilization_percentage")]
    assert len(steps) >= 4
    assert steps == sorted(set(steps))
    assert began <= steps[0] < steps[-1] <= time.time() * 1000


def test_mlflow_is_not_opened(run, capsys, monkeypatch):
    """A database that is locked, and a folder that MLflow could leave one of its own in."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{Path('mlflow.db').resolve()}")
    elsewhere = Path("elsewhere")
    elsewhere.mkdir()
    with sqlite3.connect("mlflow.db", isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        monkeypatch.chdir(elsewhere)
        start = time.monotonic()
        with tracked(composed("method=npair"), run, MANIFEST, system=True) as tracker:
            eventually(lambda: tracker.spool.waiting() >= 1)
            assert time.monotonic() - start < 8  # MLflow itself would wait for 10 s, and raise
            other.execute("ROLLBACK")
    assert not Path("mlflow.db").exists()
    said = capsys.readouterr().err
    assert "cannot be reached (database is locked)" in said
    assert "Traceback" not in said
    assert tracker.spool.waiting() == 0
