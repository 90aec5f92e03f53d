"""The programs of examples/ do what they say."""

import os
import re
import subprocess
import sys

import pytest
from tiny_project import ROOT

FOLDER = ROOT / "examples"
# torchvision built for CUDA, which both import, cannot be imported beside a torch for the CPU.
DECLARED = (
    "import sys, runpy; from rhs.models.trunks import declare_torchvision; declare_torchvision(); "
    "sys.path.insert(0, sys.argv[1]); runpy.run_path(sys.argv[2], run_name='__main__')"
)


def output_of(tmp_path, *command: str) -> str:
    done = subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        timeout=200,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def losses(text: str) -> list[float]:
    return [float(found) for found in re.findall(r"loss ([\d.]+)", text)]


def test_torchrun_with_two_ranks_draws_the_curve_of_one(tmp_path):
    run = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    one, two = (
        losses(output_of(tmp_path, *run, ranks, str(FOLDER / "distributed.py"))) for ranks in "12"
    )
    assert len(one) == 4
    assert one == pytest.approx(two, abs=2e-5)
    assert one[-1] < 0.5 * one[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lightning_module.py", "hugging_face.py"])
def test_with_other_trainers(tmp_path, name):
    text = output_of(tmp_path, "-c", DECLARED, str(FOLDER), str(FOLDER / name))
    (loss,) = losses(text.splitlines()[-1])
    assert loss < 3


def test_an_example_is_short():
    for file in FOLDER.glob("*.py"):
        assert len(file.read_text().splitlines()) < 65, file
