"""`python -m pipelines.tune`: refused in a sentence, killed and continued, told to MLflow."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import psutil
import pytest
from tiny_project import ROOT, SMALL

from pipelines.tune import divided, main
from rhs.stage import stage
from rhs.tuning.trial import run_trial, trial_params
from rhs.tuning.trial_log import TrialLog

TRAINING = (*SMALL, "train.epochs=60", "cluster.checkpoint.every_steps=1")
SEARCH = ("tune.trials=3", "tune.scheduler=null", "tune.space.method={choice: [npair, rhs_npair]}")


@pytest.fixture
def refused(project, monkeypatch, capsys):
    """Runs the stage with arguments that it refuses; returns its sentence."""

    def run(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["tune", "seed=0"])
        before = sorted(project.iterdir())
        with pytest.raises(SystemExit) as left:
            stage(partial(main, arguments=list(arguments)))
        assert left.value.code == 1
        said = capsys.readouterr().err
        assert said.startswith("error: ")
        assert said.count("\n") == 1
        assert sorted(project.iterdir()) == before
        return said

    return run


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["tune=nope"], "tune=nope is unknown; accepted: default, "),
        (["tune.trials=0"], "tune.trials is 0"),
        (["tune.objective=loss"], "tune.objective is 'loss'"),
        (["tune.space.train.lr={low: 1, high: 0.1}"], "low must be below high"),
        (["method=nope"], "method=nope is unknown"),
        (["+train.new=3"], "not of the form path=value"),
        (["tune.name=photos"], "photos.yaml was not written by a search"),
        (["tune.space.train.wd=null"], "takes nothing away: the space has"),
        (["method=triplet", "tune.space.method={choice: [npair]}"], "method=triplet would be lost"),
        (["experiment=photos", "tune.name=photos"], "is what this search writes"),
        (["dataset=folder", "dataset.source=nowhere.tar"], "nowhere.tar does not exist"),
    ],
)
def test_a_mistake_is_one_sentence(refused, arguments, said):
    assert said in refused("tracking=none", *arguments)


def test_an_end_that_cannot_be_trained_with_begins_nothing(refused, project, tiny_shards):
    (project / "data/shards").mkdir(parents=True)
    (project / "data/shards/glyphs").symlink_to(tiny_shards)
    said = refused(*SMALL, "tune.space.train.lr={low: -1, high: 0.1}")
    assert "tune.space.train.lr holds -1: train.lr is -1; it must be a number above 0." in said


def test_arguments_are_divided():
    given = ["tune=rhs", "train=head", "tune.trials=3", "seed=1"]
    assert divided(given) == ("rhs", ["tune.trials=3"], ["train=head", "seed=1"])
    assert divided([]) == ("default", [], [])


class Tuning:
    """The stage as a process of its own, in a project of its own."""

    def __init__(self, project: Path, shards: Path, *more: str):
        (project / "conf").unlink()  # it gets an experiment file
        shutil.copytree(ROOT / "conf", project / "conf")
        (project / "data/shards").mkdir(parents=True)
        (project / "data/shards/glyphs").symlink_to(shards)
        self.project, self.log = project, project / "out.txt"
        self.command = [sys.executable, "-m", "pipelines.tune", *TRAINING, *SEARCH, *more]

    def start(self) -> None:
        uri = f"sqlite:///{self.project / 'mlflow.db'}"
        with self.log.open("w") as out:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.project,
                stdout=out,
                stderr=out,
                env=os.environ
                | {"PYTHONPATH": str(ROOT), "RAY_ADDRESS": "", "MLFLOW_TRACKING_URI": uri},
            )

    @property
    def record(self) -> TrialLog:
        (file,) = self.project.glob("tuning/*/*/trials.jsonl")
        return TrialLog(file)

    def wait_for_epochs(self, epochs: int) -> None:
        deadline = time.monotonic() + 120
        while True:
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            files = list(self.project.glob("tuning/*/*/trials.jsonl"))
            if files and files[0].read_text().count('"epoch"') >= epochs:
                return
            time.sleep(0.1)

    def ends(self, status: int) -> str:
        assert self.process.wait(240) == status, self.log.read_text()
        return self.log.read_text()


@pytest.fixture
def tuning(project, tiny_shards):
    made = Tuning(project, tiny_shards, "tracking=mlflow")
    yield made
    made.process.kill()


@pytest.mark.slow
def test_killed_and_asked_to_end_it_continues(tuning, tiny_shards, tmp_path):
    tuning.start()
    tuning.wait_for_epochs(20)
    tuning.process.kill()
    tuning.ends(-signal.SIGKILL)
    begun = [trial.overrides for trial in tuning.record.trials]
    assert begun
    tuning.start()
    tuning.wait_for_epochs(45)
    tuning.process.terminate()
    said = tuning.ends(143)
    assert said.strip().splitlines()[-1].startswith("stopped; the same command continues")
    assert "Traceback" not in said
    tuning.start()
    said = tuning.ends(0)
    assert len(re.findall(r"^\d/3  trial", said, re.MULTILINE)) >= 1
    record = tuning.record
    assert [trial.state for trial in record.trials] == ["finished"] * 3
    assert [trial.overrides for trial in record.trials][: len(begun)] == begun
    assert all(sorted(trial.curve) == list(range(1, 61)) for trial in record.trials)
    logs = [path.read_text() for path in record.file.parent.glob("trials/*/log.txt")]
    assert any("continuing after" in log for log in logs)
    _is_as_if_never_interrupted(record, tiny_shards, tmp_path)
    _is_in_mlflow(tuning.project, record)
    tuning.start()
    again = tuning.ends(0)  # at once
    assert "trial 0" not in again
    assert "conf/experiment/tuned.yaml" in again


def _is_as_if_never_interrupted(record: TrialLog, shards: Path, folder: Path) -> None:
    trial = record.trials[0]
    params = trial_params([*TRAINING, *trial.overrides])
    history = run_trial(params, shards, folder / "alone", lambda row: None)
    assert [row["val_recall@1"] for row in history] == [
        trial.curve[epoch] for epoch in sorted(trial.curve)
    ]


def _is_in_mlflow(project: Path, record: TrialLog) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    (experiment,) = [e for e in client.search_experiments() if e.name != "Default"]
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert len(runs) == 4
    for run in runs:
        assert run.info.status == "FINISHED"
        if run is not parent:
            assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
            curve = client.get_metric_history(run.info.run_id, "train/val_recall_at_1")
            assert len(curve) == 60
    best = max(trial.objective for trial in record.trials)
    assert parent.data.metrics["tune/best"] == pytest.approx(best)
    files = {file.path for file in client.list_artifacts(parent.info.run_id, "tuning")}
    assert {"tuning/trials.csv", "tuning/best.json", "tuning/history.png"} <= files


@pytest.mark.slow
def test_a_trial_whose_process_dies_goes_on_in_another(project, tiny_shards):
    tuning = Tuning(project, tiny_shards, "tracking=none", "tune.concurrent=1")
    tuning.start()
    try:
        tuning.wait_for_epochs(20)
        (worker,) = [
            process
            for process in psutil.Process(tuning.process.pid).children(recursive=True)
            if process.cmdline()[:1] == ["ray::ImplicitFunc.train"]
            or "ImplicitFunc" in " ".join(process.cmdline())
        ]
        worker.kill()
        said = tuning.ends(0)
    finally:
        tuning.process.kill()
    assert "trial 0: its process died" in said
    assert [trial.state for trial in tuning.record.trials] == ["finished"] * 3


@pytest.mark.slow
def test_trials_of_two_workers_through_ray_train(project, tiny_shards):
    tuning = Tuning(
        project, tiny_shards, "tracking=none", "tune.workers=2", "tune.trials=2", "train.epochs=2"
    )
    tuning.start()
    try:
        tuning.ends(0)
    finally:
        tuning.process.kill()
    best = json.loads((project / "tuning/tuned/results/best.json").read_text())
    assert best["trials"] == {"finished": 2}
