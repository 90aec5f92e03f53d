"""The manual's commands that talk to a server: `make ui`, and jobs for a Ray cluster."""

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from readme import commands
from tiny_project import ROOT, write_shards

BIN = f"{Path(sys.executable).parent}:{os.environ['PATH']}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def running(command: list[str], page: str, **environment: str) -> Iterator[None]:
    """A server, from its first answer at `page` until the block ends."""
    server = subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | {"PATH": BIN} | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 90
        while not answers(page):
            assert server.poll() is None, f"{command} ended with status {server.returncode}"
            assert time.monotonic() < deadline, f"no answer at {page}"
            time.sleep(0.5)
        yield
    finally:
        family = relatives(server.pid)
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.terminate()
        for process in psutil.wait_procs(family, timeout=5)[1]:
            with suppress(psutil.NoSuchProcess):  # it ends just now
                process.kill()


def relatives(pid: int) -> list[psutil.Process]:
    """A process and all that it started; none where it has ended."""
    while psutil.pid_exists(pid):
        with suppress(psutil.NoSuchProcess):  # one ended while the list was made: again
            process = psutil.Process(pid)
            return [*process.children(recursive=True), process]
    return []


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
    command = ["make", "-o", "setup", "ui", f"PORT={port}"]  # a test installs nothing
    database = f"sqlite:///{tmp_path / 'mlflow.db'}"
    with running(command, f"http://127.0.0.1:{port}/health", MLFLOW_TRACKING_URI=database):
        mine = [c for c in psutil.net_connections("inet") if c.laddr.port == port]
        assert {c.laddr.ip for c in mine if c.status == psutil.CONN_LISTEN} == {"127.0.0.1"}


class Head:
    """A Ray head with token authentication, on this machine alone, and the commands to use it."""

    def __init__(self, folder: Path):
        self.page = f"http://127.0.0.1:{free_port()}"
        self.token = folder / "token"
        self.token.write_text("0123456789abcdef" * 4)
        self.token.chmod(0o600)
        self.project = folder / "project"  # changed code is another run, and this one may change
        for name in ("rhs", "pipelines", "conf"):
            shutil.copytree(ROOT / name, self.project / name)
        for name in (".rayignore", "params.yaml"):
            shutil.copy(ROOT / name, self.project)
        self.environment = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.token),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_JOB_STOP_WAIT_TIME_S": "30",
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # loopback only
        }

    @contextmanager
    def running(self) -> Iterator[None]:
        ports = {"dashboard-port": int(self.page.rpartition(":")[2])}
        for name in ("port", "dashboard-agent-listen-port", "ray-client-server-port"):
            ports[name] = free_port()
        command = [
            "ray",
            "start",
            "--head",
            "--block",
            "--num-cpus=4",
            "--num-gpus=0",
            "--node-ip-address=127.0.0.1",
            "--dashboard-host=127.0.0.1",
            *(f"--{name}={port}" for name, port in ports.items()),
        ]
        # In a folder of its own, or a job would join the last cluster that this machine started;
        # a short one, as paths of sockets must be.
        with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
            command.append(f"--temp-dir={folder}")
            with running(command, f"{self.page}/api/version", **self.environment):
                yield

    def start(self, *words: str) -> subprocess.Popen:
        return subprocess.Popen(
            words,
            cwd=self.project,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ | self.environment | {"PATH": BIN, "RAY_ADDRESS": self.page},
        )

    def job(self, *words: str) -> tuple[int, str]:
        """Status and output of `ray job ...`."""
        for _ in range(10):
            process = self.start("ray", "job", *words)
            said, _ = process.communicate(timeout=240)
            if "No available agent to submit job" not in said:  # the head has just started
                break
        return process.returncode, said

    def answer(self, token: str | None) -> int:
        """The HTTP status of a list of the jobs."""
        header = {} if token is None else {"Authorization": f"Bearer {token}"}
        request = urllib.request.Request(f"{self.page}/api/jobs/", headers=header)
        try:
            with urllib.request.urlopen(request, timeout=10) as reply:
                return reply.status
        except urllib.error.HTTPError as error:
            return error.code


def until(process: subprocess.Popen, text: str) -> str:
    """What a command has printed, up to and including the first line with `text`."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return "".join(lines)
    raise AssertionError(f"no {text!r} in:\n{''.join(lines)}")


def drivers(storage: Path) -> list[psutil.Process]:
    """The processes of `python -m pipelines.train` that work in `storage`."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if words[1:3] == ["-m", "pipelines.train"] and f"cluster.storage={storage}" in words:
            found.append(process)
    return found


def submission(name: str, storage: Path) -> list[str]:
    """The manual's `ray job submit`, small enough for a test, under another name."""
    words = shlex.split(next(line for line in commands() if line.startswith("ray job submit")))
    options, entrypoint = words[: words.index("--")], words[words.index("--") :]
    options[options.index("--submission-id") + 1] = name
    entrypoint[entrypoint.index("cluster=multi_node")] = "cluster=laptop"
    entrypoint = [word for word in entrypoint if not word.startswith("cluster.storage=")]
    small = [
        "cluster.num_workers=1",
        "tracking=none",
        "train.classes=4",
        f"train.epochs={EPOCHS}",
        "model.image_size=16",
        "model.trunk.widths=[8,16]",
    ]
    return [*options, *entrypoint, f"cluster.storage={storage}", *small]


EPOCHS = 60


@pytest.mark.slow
def test_jobs_for_a_ray_cluster(tmp_path):
    """Submitted, followed, stopped, killed and submitted again: the model of a run in one go."""
    head = Head(tmp_path)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    write_shards(whole / "data/shards/glyphs", train=[40] * 12, test=[4, 4, 4])
    shutil.copytree(whole, broken)
    with head.running():
        assert [head.answer(t) for t in (None, "wrong" * 8)] == [401, 403]
        assert head.answer(head.token.read_text()) == 200

        status, said = head.job(*submission("whole-1", whole)[2:])  # returns at once
        assert status == 0, said
        assert "epoch" not in said
        waiting = [word for word in submission("broken-1", broken) if word != "--no-wait"]
        submitter = head.start(*waiting)
        assert f"epoch {EPOCHS}/" not in until(submitter, "epoch 1/")  # lines come as they are made
        submitter.send_signal(signal.SIGKILL)
        submitter.wait()

        follower = head.start("ray", "job", "logs", "--follow", "broken-1")
        until(follower, "epoch 3/")  # it did not end with who had submitted it
        status, said = head.job("stop", "broken-1")
        assert status == 0, said
        said, _ = follower.communicate(timeout=60)
        assert "stopped after step" in said, said
        assert "'broken-1' was stopped" in head.job("status", "broken-1")[1]

        status, said = head.job(*submission("broken-1", broken)[2:])
        assert status != 0
        assert "already exists" in said  # an id names one try
        killed = head.start(*waiting_as("broken-2", waiting))
        said = until(killed, f"/{EPOCHS}")
        assert "continuing after" in said, said
        (driver,) = drivers(broken)
        driver.kill()
        killed.communicate(timeout=60)
        assert killed.returncode != 0
        assert "'broken-2' failed" in head.job("status", "broken-2")[1]

        status, said = head.job(*waiting_as("broken-3", waiting)[2:])
        assert status == 0, said
        assert "continuing after" in said, said
        assert f"epoch {EPOCHS}/{EPOCHS}" in said
        assert finished(head, "whole-1")
    models = [folder / "models/glyphs/model.safetensors" for folder in (whole, broken)]
    assert models[0].read_bytes() == models[1].read_bytes()


def waiting_as(name: str, words: list[str]) -> list[str]:
    return [name if word == "broken-1" else word for word in words]


def finished(head: Head, name: str) -> bool:
    head.job("logs", "--follow", name)
    return f"'{name}' succeeded" in head.job("status", name)[1]
