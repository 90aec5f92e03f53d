"""Stages as processes of their own, to be killed."""

import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

from omegaconf import OmegaConf
from rank_jobs import final_tensors
from tiny_project import ROOT, small_params

LONG = ("method=rhs_npair", "train.epochs=40", "cluster.checkpoint.every_steps=1")


class Driver:
    """`python -m pipelines.train` in a project folder of its own."""

    def __init__(self, project: Path, shards: Path | None = None, *overrides: str):
        self.project, self.log = project, project / "out.txt"
        if shards is not None:
            (project / "data/shards").mkdir(parents=True)
            (project / "data/shards/glyphs").symlink_to(shards)
        params = small_params(*LONG, *overrides)
        (project / "params.yaml").write_text(OmegaConf.to_yaml(asdict(params)))
        self.start()

    def start(self, stage: str = "train") -> None:
        with self.log.open("a") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", f"pipelines.{stage}"],
                cwd=self.project,
                stdout=out,
                stderr=out,
                env=os.environ | {"PYTHONPATH": str(ROOT), "RAY_ADDRESS": ""},
            )

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + 90
        while text not in self.log.read_text():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, f"{text!r} did not come:\n{self.log.read_text()}"
            time.sleep(0.05)

    def ends(self, status: int) -> str:
        """What it said."""
        assert self.process.wait(120) == status, self.log.read_text()
        said = self.log.read_text()
        self.log.write_text("")
        return said

    def final(self) -> tuple[dict, dict]:
        (folder,) = (self.project / "runs").glob("*/checkpoints")
        return final_tensors(folder)
