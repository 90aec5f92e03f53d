"""The wheel, in an environment that has torch and nothing of the pipeline's."""

import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest
import torch
from tiny_project import ROOT

# What `pip install torch numpy pyyaml tqdm` brings.
CORE = [
    "torch",
    "torchgen",
    "functorch",
    "numpy",
    "numpy.libs",
    "yaml",
    "_yaml",
    "tqdm",
    "typing_extensions.py",
    "sympy",
    "mpmath",
    "networkx",
    "jinja2",
    "markupsafe",
    "fsspec",
    "filelock",
]
ABSENT = ["ray", "mlflow", "dvc", "hydra", "omegaconf", "scipy", "faiss", "safetensors", "PIL"]


@pytest.fixture(scope="module")
def bare(tmp_path_factory) -> Path:
    """The Python of a new environment with the wheel, and the core's requirements linked in."""
    folder = tmp_path_factory.mktemp("package")
    source = folder / "source"
    for name in ("rhs", "conf"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, source)
    pip = [sys.executable, "-m", "pip"]
    build = ["wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder / "dist", source]
    subprocess.run([*pip, *build], check=True)
    (wheel,) = (folder / "dist").glob("rhs_dml-*.whl")
    venv.create(folder / "bare", with_pip=False)
    (packages,) = folder.glob("bare/lib/python*/site-packages")
    theirs = Path(torch.__file__).parents[1]
    for name in CORE:
        if (theirs / name).exists():
            (packages / name).symlink_to(theirs / name)
    install = ["install", "-q", "--no-deps", "--no-index", "--ignore-installed"]
    subprocess.run([*pip, *install, "--prefix", folder / "bare", wheel], check=True)
    return folder / "bare/bin/python"


def run(python: Path, *arguments: str | Path) -> str:
    done = subprocess.run(
        [python, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=python.parent,
        env={"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_public_name_without_the_pipeline(bare):
    program = (
        "import importlib.util, rhs\n"
        f"print([m for m in {ABSENT} if importlib.util.find_spec(m)])\n"
        "[getattr(rhs, name) for name in rhs.__all__]\n"
        "print(rhs.__file__, len(rhs.list_losses()))"
    )
    absent, place = run(bare, "-c", program).splitlines()
    assert absent == "[]"
    assert "site-packages" in place
    assert int(place.split()[1]) == len(list((ROOT / "conf/method").glob("*.yaml")))


def test_the_plain_example(bare):
    lines = run(bare, ROOT / "examples/plain_loop.py").splitlines()
    before, after = (float(line.split()[-1]) for line in (lines[0], lines[-2]))
    assert before < 0.5 < 0.9 < after


def test_types_are_there_for_others(bare):
    (package,) = bare.parents[1].glob("lib/python*/site-packages/rhs")
    assert (package / "py.typed").exists()
    assert list(package.parent.glob("rhs_dml-*.dist-info/licenses/LICENSE"))
