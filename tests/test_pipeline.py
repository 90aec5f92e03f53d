"""The whole pipeline through DVC, once, on a data set of 48 images, in a clone of the project."""

import csv
import json
import re
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from cloned_project import DVC, STAGES, choose, run
from mlflow import MlflowClient
from omegaconf import OmegaConf

from rhs.data.embedding_files import read_split
from rhs.models.embedder import model_digest
from rhs.storage.outputs import RUN, others, refuse_outputs

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload``")  # within MLflow


@pytest.fixture
def project(whole_run):
    """The project after its run; parameters that a test changes are put back."""
    folder, _ = whole_run
    kept = (folder / "params.yaml").read_text()
    yield folder
    (folder / "params.yaml").write_text(kept)


def test_every_stage_says_a_few_lines_and_no_library_says_any(whole_run):
    _, said = whole_run
    stages = re.split(r"Running stage '(\w+)':\n> python -m pipelines\.\w+\n", said)
    assert stages[1::2] == STAGES
    for text in stages[2::2]:
        own = text.split("\n\n")[0].splitlines()
        own = [line for line in own if not line.endswith("lock file 'dvc.lock'")]
        assert 1 <= len(own) <= 6, text
        assert not re.search(r"warn|error|deprecat|[\d%]\|", "\n".join(own), re.IGNORECASE), text


def test_what_it_leaves(project):
    metrics = json.loads((project / "metrics.json").read_text())
    assert set(metrics) == {"val", "test", "untrained"}
    assert all(0 <= metrics[split]["recall@1"] <= 1 for split in metrics)
    assert metrics["test"]["queries"] == 24
    test = read_split(project / "embeddings/folder", "test")
    assert test.embeddings.shape == (24, 16)
    assert test.labels.tolist() == [label for label in (4, 5, 6, 7) for _ in range(6)]
    np.testing.assert_allclose(np.linalg.norm(test.embeddings, axis=1), 1, atol=1e-5)
    assert test.model == model_digest(project / "models/folder")
    for split in metrics:
        for name, ends in metrics[split]["intervals"].items():
            assert 0 <= ends["low"] <= metrics[split][name] <= ends["high"] <= 1
    facts = json.loads((project / "index/folder/index.json").read_text())
    assert (facts["images"], facts["model"]) == (48, test.model)
    assert list((project / "runs").glob("*/embeddings")) == []
    with (project / "models/folder/history.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2"]
    assert {f.name for f in (project / "models/folder").iterdir()} == {
        "model.safetensors",
        "config.json",
        "history.csv",
    }


def test_the_report_links_to_pages_that_exist(project):
    page = (project / "report/index.html").read_text()
    links = {link.split("#")[0] for link in re.findall(r'href="(?!data:)([^"#][^"]*)"', page)}
    assert "failures.html" in links
    assert [link for link in links if not (project / "report" / link).exists()] == []


def test_mlflow_has_one_run_with_all_of_it(project):
    client = MlflowClient(f"sqlite:///{project}/mlflow.db")
    experiment = client.get_experiment_by_name("folder")
    (kept,) = client.search_runs([experiment.experiment_id])
    assert kept.info.status == "FINISHED"
    assert kept.data.params["method.name"] == "symm_npair"
    assert kept.data.params["train.epochs"] == "2"
    lock = OmegaConf.load(project / "dvc.lock")
    assert kept.data.tags["dvc.shards"] == lock.stages.preprocess.outs[0].md5
    metrics = json.loads((project / "metrics.json").read_text())
    for split, scores in metrics.items():
        assert kept.data.metrics[f"{split}/recall_at_1"] == scores["recall@1"]
        assert kept.data.metrics[f"{split}/map_at_r_high"] == scores["intervals"]["map@r"]["high"]
    assert kept.data.metrics["index/images"] == 48
    losses = client.get_metric_history(kept.info.run_id, "train/loss")
    assert len(losses) == 2
    assert losses[0].step < losses[1].step
    assert "system/cpu_utilization_percentage" in kept.data.metrics
    report = client.list_artifacts(kept.info.run_id, "report")
    assert {Path(a.path).name for a in report} == {"index.html", "failures.html", "explorer.html"}
    version = client.get_model_version_by_alias("rhs-folder", "champion")
    assert version.run_id == kept.info.run_id


def test_a_second_repro_runs_nothing_but_the_look_at_the_inputs(project):
    start = time.monotonic()
    said = run([*DVC, "repro"], project).stdout
    took = time.monotonic() - start
    print(f"second dvc repro: {took:.1f} s")
    assert said.count("didn't change, skipping") == len(STAGES) - 1
    assert re.findall(r"Running stage '(\w+)'", said) == ["inputs"]
    assert "inputs: photos.tar: 1 file\n" in said
    assert took < 10  # 2 seconds on a machine that does nothing else


@pytest.mark.parametrize(
    ("choices", "rerun"),
    [
        (["method=npair"], {"train", "report"}),
        (["method=symm_npair", "cluster=one_gpu"], set()),
        (["method=symm_npair", "tracking=none"], set()),
        (["method=symm_npair", "evaluate.untrained=false"], {"evaluate", "report"}),
        (["method=symm_npair", "index.thumbnail=0"], {"evaluate", "report"}),
        (["method=symm_npair", "cluster.gallery_shards=2"], set()),
        (["method=symm_npair", "preprocess.quality=90"], {"preprocess", "report"}),
    ],
)
def test_what_a_change_reruns(project, choices, rerun):
    # What comes after these stages runs if their outputs change.
    choose(project, *choices)
    status = json.loads(run([*DVC, "status", "--json"], project).stdout)
    assert status.pop("inputs") == ["always changed"]
    assert set(status) == rerun


def test_what_dvc_composes_anew_is_told_with_the_command_that_keeps_it(project):
    """The choices of the run before, and an edit by hand that never ran."""
    params = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(params.replace("  epochs: 2\n", "  epochs: 3\n"))
    said = run([*DVC, "exp", "run", "-S", "seed=4", "inputs"], project).stdout
    run(["git", "checkout", "-q", "params.yaml"], project)
    assert "this run is on glyphs, the last was on folder (photos.tar)" in said
    assert "train.epochs 3 -> 8" in said
    (command,) = re.findall("to keep that: (dvc exp run .*)", said)
    for choice in ("dataset.source=photos.tar", "train.epochs=3", "seed=4", "method=symm_npair"):
        assert f" -S {choice}" in command


def test_git_sees_the_choice_and_the_lock_file(project):
    assert run(["git", "status", "--short"], project).stdout.split() == [
        "M",
        "params.yaml",
        "??",
        "dvc.lock",
    ]


@pytest.mark.parametrize("model", [[], ["--model", "rhs-folder@champion"]])
def test_search_finds_the_image_itself(project, model):
    """With the model and index of this folder, and with those that MLflow has registered."""
    image = project.parent / "images/class 5/2.png"
    command = [sys.executable, "-m", "rhs.cli", "search", str(image), "-k", "3", *model]
    said = run(command, project).stdout
    first = next(line for line in said.splitlines() if line.split()[:1] == ["1"])
    assert "class 5" in first
    assert "2.png" in first
    assert "1.000" in first
    assert (project / "search.html").read_text().count("<img") >= 4
    (project / "search.html").unlink()


def test_trained_already(project):
    weights = project / "models/folder/model.safetensors"
    before = weights.read_bytes()
    assert "already trained" in run([sys.executable, "-m", "pipelines.train"], project).stdout
    assert weights.read_bytes() == before


@pytest.mark.parametrize(
    ("choice", "why"),
    [
        ("method=nope", "method=nope is unknown; accepted: "),
        ("train.epochs=three", "train.epochs is 'three'; it must be a whole number"),
        ("dataset.source=photos", "dataset.source is photos, which glyphs does not read"),
    ],
)
def test_what_cannot_be_is_one_sentence_and_changes_nothing(project, choice, why):
    before = (project / "params.yaml").read_text()
    done = run([*DVC, "exp", "run", "-S", choice], project, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {why}")
    assert done.stderr.count("\n") == 1
    assert (project / "params.yaml").read_text() == before


def test_files_of_a_user_in_an_output_are_refused_before_dvc_removes_them(project):
    mine = [project / "data/raw/birds/robin.jpg", project / "report/notes.txt"]
    for path in mine:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    kept = (project / "params.yaml").read_text()
    source = ["-S", "dataset=folder", "-S", "dataset.source=data/raw/birds"]
    for choices, why in (
        (source, "dataset.source is data/raw/birds, which lies in data/raw"),
        ([], "report holds notes.txt, which no stage made"),
        (["-S", "dataset.name=birds"], "data/raw/birds holds robin.jpg, which no stage made"),
    ):
        done = run([*DVC, "exp", "run", *choices], project, check=False)
        assert done.returncode == 1
        assert done.stderr.startswith(f"error: {why}")
        assert done.stderr.count("\n") == 1
        assert [path.read_text() for path in mine] == ["mine"] * 2
        assert (project / "params.yaml").read_text() == kept
    for path in mine:
        path.unlink()


def test_outputs_hold_what_their_stages_are_known_to_make(project):
    refuse_outputs(OmegaConf.load(project / "params.yaml"), project)
    (run_folder,) = (project / "runs").glob("folder-*")
    assert list(others(run_folder, RUN)) == []
