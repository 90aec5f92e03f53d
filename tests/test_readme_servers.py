"""The README's commands that talk to a server: `make ui`, and a job for a Ray cluster."""

import os
import shlex
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from readme import commands
from tiny import ROOT, write_shards

BIN = f"{Path(sys.executable).parent}:{os.environ['PATH']}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def running(command: list[str], page: str, **environment: str) -> Iterator[None]:
    """A server, from its first answer at `page` until the block ends."""
    server = subprocess.Popen(
        command, cwd=ROOT, env=os.environ | {"PATH": BIN} | environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 90
        while not answers(page):
            assert server.poll() is None, f"{command} ended with status {server.returncode}"
            assert time.monotonic() < deadline, f"no answer at {page}"
            time.sleep(0.5)
        yield
    finally:
        family = [*psutil.Process(server.pid).children(recursive=True), psutil.Process(server.pid)]
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.terminate()
        for process in psutil.wait_procs(family, timeout=5)[1]:
            process.kill()


def answers(page: str) -> bool:
    try:
        with urllib.request.urlopen(page, timeout=5):
            return True
    except urllib.error.HTTPError:
        return True  # it wants a token, for instance
    except OSError:
        return False


def test_make_ui(tmp_path):
    port = free_port()
    command = ["make", "ui", f"PORT={port}"]
    database = f"sqlite:///{tmp_path / 'mlflow.db'}"
    with running(command, f"http://127.0.0.1:{port}/health", MLFLOW_TRACKING_URI=database):
        pass


@pytest.mark.slow
def test_a_job_for_a_ray_cluster(tmp_path):
    write_shards(tmp_path / "data/shards/glyphs", train=[4] * 6, test=[4, 4, 4])
    submit = next(line for line in commands() if line.startswith("ray job submit"))
    words = shlex.split(submit)
    words[words.index("cluster=multi_node")] = "cluster=laptop"
    words = [w for w in words if not w.startswith("cluster.storage=")]
    words += [f"cluster.storage={tmp_path}", "tracking=none", "train.classes=4", "train.epochs=1",
              "model.image_size=16", "model.trunk.widths=[8,16]"]  # fmt: skip
    port, address = free_port(), f"127.0.0.1:{free_port()}"
    head = ["ray", "start", "--head", "--block", "--num-cpus=2", "--node-ip-address=127.0.0.1",
            "--dashboard-host=127.0.0.1", f"--dashboard-port={port}",
            f"--port={address.rpartition(':')[2]}"]  # fmt: skip
    token = {"RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0"}
    with running(head, f"http://127.0.0.1:{port}/api/version", **token):
        done = subprocess.run(
            words, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False,
            env=os.environ | token | {"PATH": BIN, "RAY_API_SERVER_ADDRESS":
                                      f"http://127.0.0.1:{port}"},
        )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "epoch 1/1" in done.stdout
    assert (tmp_path / "models/glyphs/model.safetensors").exists()
