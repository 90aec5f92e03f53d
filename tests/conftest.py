"""Fixtures that several test folders share."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import pytest

from rhs.distributed.ray_cluster import connect
from rhs.stage import stage

SMALL_MODEL = ("model.image_size=16", "model.dim=16", "model.trunk.widths=[8,16]")

# For the processes of the pool too, which inherit it. At the end: it must hide nothing.
sys.path.append(str(Path(__file__).parent / "helpers"))


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Small tensors are slower on many threads, and sums do not depend on the machine's cores."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """The one Ray of the whole test run: two CPUs, on this machine only."""
    import ray
    from tiny_project import cluster_config

    connect(cluster_config(num_cpus=2))
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def gloo_pool() -> Iterator:
    """The one set of processes of the whole test run that form process groups of 1 to 4 ranks."""
    from gloo_pool import GlooPool

    pool = GlooPool(4)
    yield pool
    pool.close()


@pytest.fixture(scope="session")
def tiny_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight training classes, three for validation, three to test: 16-pixel color patterns."""
    from tiny_project import write_shards

    folder = tmp_path_factory.mktemp("tiny") / "shards"
    return write_shards(folder, train=[5, 4, 6, 3, 4, 4, 2, 4], val=[4, 4, 4], test=[4, 4, 4])


@pytest.fixture(scope="session")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A clone of the project after one small `dvc exp run`, and what that printed."""
    from cloned_project import make_clone, run_all

    folder = make_clone(tmp_path_factory.mktemp("pipeline"))
    return folder, run_all(folder)


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """An empty project that shares the real one's configuration."""
    from tiny_project import ROOT

    here = tmp_path / "project"
    here.mkdir()
    (here / "conf").symlink_to(ROOT / "conf")
    monkeypatch.chdir(here)
    return here


@pytest.fixture
def stage_of(project, monkeypatch) -> Callable[..., None]:
    """Runs a stage of the folder data set as `python -m pipelines.<name> overrides...` does."""

    def run(name: str, *overrides: str) -> None:
        arguments = [name, "dataset=folder", "tracking=none", *SMALL_MODEL, *overrides]
        monkeypatch.setattr(sys, "argv", arguments)
        stage(import_module(f"pipelines.{name}").main)

    return run


@pytest.fixture
def refused(stage_of, project, capsys) -> Callable[..., str]:
    """Runs a stage that must fail with one sentence; returns it.

    The stage leaves no file but lists of the images that it refused or kept.
    """
    from folders import files

    def run(name: str, *overrides: str) -> str:
        before = files(project)
        with pytest.raises(SystemExit) as left:
            stage_of(name, *overrides)
        assert left.value.code == 1
        said = capsys.readouterr().err
        assert said.startswith("error: ")
        assert said.count("\n") == 1
        assert "Traceback" not in said
        lists = (".refused.csv", ".kept.csv")
        assert {file for file in files(project) if not file.endswith(lists)} == before
        return said

    return run


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Callable[[str], Path]]:
    """Makes a folder on a disk of so many bytes ("300k"); skips where that is not permitted."""
    disks = []

    def make(size: str) -> Path:
        disk = tmp_path / f"disk{len(disks)}"
        disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("mounting a small disk is not permitted here")
        disks.append(disk)
        return disk

    yield make
    for disk in disks:
        subprocess.run(["umount", "-l", str(disk)], check=True)
