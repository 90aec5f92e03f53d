"""Killed by real signals while Ray Train runs it, a run ends like one that was not."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from driver import LONG, Driver
from rank_jobs import final_tensors, train_until
from resume_checks import assert_bit_equal, numbers, params, straight_runs
from tiny_project import ROOT, small_params

from rhs.run import Run
from rhs.tracking.tracker import NullTracker
from rhs.training.driver import fit


@pytest.fixture(scope="module")
def straight(gloo_pool, tiny_shards, tmp_path_factory):
    return straight_runs(gloo_pool, tiny_shards, tmp_path_factory, 2)[2]


class Killing(NullTracker):
    """Takes metrics, and kills one of Ray Train's workers after the first epoch."""

    def __init__(self):
        self.epochs: list[int] = []

    def metrics(self, values: dict, step: int, *_, **__) -> None:
        self.epochs.append(values["epoch"])
        if len(self.epochs) == 1:
            max(train_workers(), key=lambda process: process.pid).kill()


def train_workers(of: int | None = None) -> list[psutil.Process]:
    found = []
    for process in psutil.Process(of).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if "RayTrainWorker" in " ".join(process.cmdline()):
                found.append(process)
    assert found
    return found


def test_a_worker_that_dies_is_replaced_and_the_run_ends_bit_equal(
    ray_cluster, tiny_shards, straight, tmp_path
):
    run = Run("tiny", tmp_path / "runs" / "tiny")
    settings = small_params(
        "method=rhs_npair", "cluster.checkpoint.every_steps=1", "cluster.max_failures=1"
    )
    assert settings.cluster.num_workers == 2
    tracker = Killing()
    fit(settings, tiny_shards, run, tracker)
    said = run.journal.read_text()
    assert said.count("2 worker(s)") == 2
    assert said.count("continuing after") == 1
    assert sorted(set(tracker.epochs)) == [1, 2, 3]
    tensors, state = final_tensors(Path(run.checkpoints))
    assert_bit_equal(straight[0], tensors)
    assert state == straight[1]


@pytest.fixture
def driver(project, tiny_shards):
    made = Driver(project, tiny_shards)
    yield made
    made.process.kill()


@pytest.fixture(scope="module")
def long_straight(gloo_pool, tiny_shards, tmp_path_factory):
    folder = tmp_path_factory.mktemp("long")
    config = small_params(*LONG)
    gloo_pool.run(train_until, 2, config, tiny_shards, folder)
    return final_tensors(folder)


@pytest.mark.slow
def test_the_driver_is_killed_and_a_second_one_refused_before(driver, long_straight):
    driver.wait_for("epoch 3/")
    second = subprocess.run(
        [sys.executable, "-m", "pipelines.train"],
        cwd=driver.project,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        timeout=60,
    )
    assert second.returncode == 1
    assert f"is in use by process {driver.process.pid} on" in second.stderr
    assert second.stderr.count("\n") == 1
    workers = train_workers(driver.process.pid)
    driver.process.kill()
    driver.ends(-signal.SIGKILL)
    # Nobody is left who could write to the run.
    assert not psutil.wait_procs(workers, timeout=20)[1]
    driver.start()
    said = driver.ends(0)
    assert "continuing after" in said
    assert_bit_equal(long_straight[0], driver.final()[0])


@pytest.mark.slow
@pytest.mark.parametrize(("signum", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_asked_to_end_it_saves_and_says_so(driver, long_straight, signum, status):
    driver.wait_for("epoch 3/")
    start = time.monotonic()
    driver.process.send_signal(signum)
    said = driver.ends(status)
    assert time.monotonic() - start < 15
    stopped = said.strip().splitlines()[-1]
    assert stopped.startswith("stopped after step ")
    assert stopped.endswith("the same command continues from there")
    assert "Traceback" not in said
    epoch, step = divmod(int(stopped.split()[3].rstrip(";")), 5)
    driver.start()
    where = f"step {step}/5 of epoch {epoch + 1}" if step else f"(epoch|step 5/5 of epoch) {epoch}"
    assert re.search(f"continuing after {where}\n", driver.ends(0))
    assert_bit_equal(long_straight[0], driver.final()[0])


@pytest.mark.slow
def test_asked_to_end_before_it_began(driver):
    driver.wait_for("run glyphs")
    time.sleep(1)
    driver.process.terminate()
    assert driver.process.wait(60) in (143, -signal.SIGTERM)  # with Ray begun, and before
    assert "Traceback" not in driver.log.read_text()
    assert not list(driver.project.glob("runs/*/checkpoints/*.json"))


@pytest.mark.slow
def test_an_elastic_run_loses_a_node_and_gets_it_back(tiny_shards, tmp_path):
    script = ROOT / "tests/helpers/elastic_run.py"
    done = subprocess.run(
        [sys.executable, script, tiny_shards, tmp_path],
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{script.parent}"},
    )
    assert done.returncode == 0, done.stderr
    told = re.findall(r"node lost|node is back|\d worker\(s\)", done.stdout)
    assert told == ["2 worker(s)", "node lost", "1 worker(s)", "node is back", "2 worker(s)"]
    config = params() | {"train": params()["train"] | {"epochs": 400, "lr": 3e-5}}
    train_until(config, tiny_shards, tmp_path / "straight")
    _, state = final_tensors(tmp_path / "runs/elastic/checkpoints")
    _, straight = final_tensors(tmp_path / "straight")
    for row, expected in zip(numbers(state), numbers(straight), strict=True):
        assert row == pytest.approx(expected, rel=1e-5, abs=1e-6)
