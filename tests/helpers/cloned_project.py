"""The project as a newcomer gets it, and DVC run in it."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
from dataclasses import asdict
from pathlib import Path

from omegaconf import OmegaConf
from tiny_project import ROOT, class_image, composed, png

README = re.search(
    r"^dvc (exp run -S experiment=photos .*)$", (ROOT / "README.md").read_text(), re.M
)
# What makes the README's command for one's own photographs a matter of seconds.
CHOICES = (
    "model=convnet",
    "dataset.validation=0.5",
    "model.image_size=16",
    "model.dim=16",
    "model.trunk.widths=[8,16]",
    "train.classes=2",
    "train.epochs=2",
)
STAGES = ["inputs", "fetch", "preprocess", "data_report", "train", "evaluate", "report"]
CODE = ("rhs", "pipelines", "conf")
DVC = [sys.executable, "-m", "dvc"]
GIT = ["git", "-c", "user.name=test", "-c", "user.email=test@localhost"]


def run(command: list[str], cwd: Path, check: bool = True) -> subprocess.CompletedProcess:
    environment = {k: v for k, v in os.environ.items() if k not in ("MLFLOW_TRACKING_URI",)}
    environment |= {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "DVC_NO_ANALYTICS": "1",
        **{
            f"GIT_{who}_{what}": "test@localhost"
            for who in ("AUTHOR", "COMMITTER")
            for what in ("NAME", "EMAIL")
        },
    }
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=400, check=False
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def choose(project: Path, *choices: str) -> None:
    """What `dvc exp run -S` does to params.yaml, without running anything."""
    source = [word for word in shlex.split(README[1]) if "=" in word]
    OmegaConf.save(
        OmegaConf.create(asdict(composed(*source, *CHOICES, *choices))), project / "params.yaml"
    )


def make_clone(parent: Path) -> Path:
    """The project as a newcomer gets it: its files in a git repository of one commit."""
    folder = parent / "project"
    listed = run(["git", "ls-files", "-c"], ROOT).stdout.splitlines()
    listed += run(["git", "ls-files", "-o", "--exclude-standard", *CODE], ROOT).stdout.splitlines()
    for name in set(listed) - {"dvc.lock"}:
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    OmegaConf.save(
        OmegaConf.create(asdict(composed())), folder / "params.yaml"
    )  # ROOT's may be an experiment's
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "all"]):
        run([*GIT, *command], folder)
    for label in range(8):
        images = folder.parent / "images" / f"class {label}"
        images.mkdir(parents=True)
        for number in range(6):
            (images / f"{number}.png").write_bytes(png(class_image(label, number)))
    with tarfile.open(folder / "photos.tar", "w") as archive:
        archive.add(folder.parent / "images", "images")
    with (folder / ".git/info/exclude").open("a") as file:
        file.write("/photos.tar\n")
    return folder


def run_all(folder: Path) -> str:
    """One `dvc exp run` of the README, made small; returns what it printed."""
    choices = [*CHOICES, "method=symm_npair"]
    command = shlex.split(README[1])
    done = run([*DVC, *command, *(w for c in choices for w in ("-S", c))], folder)
    return done.stdout + done.stderr
