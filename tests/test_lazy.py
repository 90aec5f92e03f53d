"""What an import pulls in: the core runs with torch alone."""

import json
import os
import subprocess
import sys

import pytest
from tiny_project import ROOT

HEAVY = ["ray", "mlflow", "dvc", "faiss", "hydra", "omegaconf", "pyarrow", "sklearn", "matplotlib"]


def loaded_after(*imports: str) -> list[str]:
    program = (
        f"import json, sys, {', '.join(imports)}\n"
        f"print(json.dumps([m for m in [*{HEAVY!r}, 'torch'] if m in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    return json.loads(done.stdout)


def test_the_package_pulls_nothing():
    assert loaded_after("rhs") == []


def test_the_core_runs_with_torch_alone():
    imports = [
        "rhs.methods.objective",
        "rhs.methods.losses.npair",
        "rhs.models.embedder",
        "rhs.training.loop",
        "rhs.training.checkpoint",
        "rhs.distributed.collectives",
        "rhs.config.instantiate",
        "rhs.data.loader",
    ]
    assert loaded_after(*imports) == ["torch"]


@pytest.mark.parametrize("module", ["rhs.stage", "rhs.run"])
def test_reading_parameters_starts_nothing_heavy(module):
    heavy = loaded_after(module)
    assert set(heavy) <= {"omegaconf", "hydra"}


def test_a_stage_that_is_told_help_or_nonsense_starts_no_ray():
    assert "ray" not in loaded_after(
        "rhs.training.worker", "rhs.tracking.tracker", "rhs.distributed.ray_cluster"
    )
