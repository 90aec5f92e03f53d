"""docs/extending.md is followed to the letter, in a copy of the project."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_project import ROOT

TEXT = (ROOT / "docs/extending.md").read_text()
BLOCK = re.compile(r"(?:^`([\w/.]+)`:\n\n)?^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [match.groups() for match in BLOCK.finditer(TEXT)]
FILES = {path: text for path, _, text in BLOCKS if path}
PROGRAMS = [text for path, language, text in BLOCKS if language == "python" and not path]
LINES = [line for _, kind, text in BLOCKS if kind == "bash" for line in text.splitlines()]
COMMANDS = [shlex.split(line) for line in LINES]
RUNS = [[word for word in words if "=" in word] for words in COMMANDS if words[:1] == ["dvc"]]
# What `dvc exp run` would do with these parameters, as far as it is theirs.
BUILD = """
import sys
from dataclasses import asdict
import torch
from rhs.config.compose import compose
from rhs.methods.check_method import check_method
from rhs.models.embedder import build_embedder

for line in sys.stdin.read().splitlines():
    params = compose(line.split())
    model = asdict(params.model)
    size = model["image_size"]
    x = build_embedder(model, 0)(torch.zeros(2, 3, size, size))
    assert x.shape == (2, model["dim"])
    check_method(params.method, 6, model["dim"])
    print("built", line)
"""


@pytest.fixture(scope="module")
def extended(tmp_path_factory) -> Path:
    """A copy of the project with the files of the page."""
    folder = tmp_path_factory.mktemp("extended")
    for name in ("rhs", "pipelines", "conf"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path, text in FILES.items():
        assert not (folder / path).exists(), f"{path} is not new"
        (folder / path).write_text(text)
    return folder


def run(folder: Path, *command: str, given: str = "") -> str:
    done = subprocess.run(
        [sys.executable, *command],
        input=given,
        capture_output=True,
        text=True,
        timeout=400,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_section_has_its_files():
    sections = TEXT.split("\n## ")[1:]
    assert [s.splitlines()[0] for s in sections] == [
        f"Add a {what}" for what in ("loss", "generator", "data set", "trunk")
    ]
    for section in sections:
        assert len(re.findall(r"^`(rhs/\w+/.*\.py|conf/.*\.yaml)`:$", section, re.MULTILINE)) == 2


def test_the_programs_run(extended):
    for program in PROGRAMS:
        run(extended, "-c", program)


def test_every_run_is_one_that_can_be_built(extended):
    given = [" ".join(overrides) for overrides in RUNS]
    built = run(extended, "-c", BUILD, given="\n".join(given)).splitlines()
    assert built == [f"built {line}" for line in given]


def test_the_data_set_is_fetched(extended):
    (fetch,) = [words for words in COMMANDS if words[0] == "python"]
    assert "1,797 images of 10 classes" in run(extended, *fetch[1:])


@pytest.mark.slow
@pytest.mark.parametrize("overrides", RUNS, ids="".join)
def test_the_stages_run(extended, overrides):
    small = ["train.epochs=1", "cluster.num_workers=1", "tracking=none"]
    if not any("dataset=" in word for word in overrides):
        small += ["dataset=digits", "model.image_size=16", "train.classes=5"]
    for stage in ("fetch", "preprocess", "train", "evaluate"):
        run(extended, "-m", f"pipelines.{stage}", *overrides, *small)


def test_the_files_keep_to_the_style(extended):
    config = ["--config", str(ROOT / "pyproject.toml")]
    files = [path for path in FILES if path.endswith(".py")]
    run(extended, "-m", "ruff", "check", *config, *files)
    run(extended, "-m", "ruff", "format", "--check", *config, *files)
