"""Secure by default: loopback only, nothing that is loaded is executed, no secrets passed on."""

import hashlib
import io
import json
import pickle
import re
import subprocess
import sys
from pathlib import Path

import cloudpickle
import mlflow
import numpy as np
import pytest
import torch
from execution_scan import executes, whole_environments
from PIL import Image
from tiny_project import ROOT, cluster_config

from rhs.distributed import ray_cluster
from rhs.errors import UserError
from rhs.inference import mlflow_model
from rhs.models.embedder import build_embedder, load_embedder, save_embedder
from rhs.storage.store import open_store
from rhs.training import checkpoint

SOURCES = sorted(p for folder in ("rhs", "pipelines") for p in (ROOT / folder).rglob("*.py"))
CONFIG = {
    "trunk": {"_target_": "rhs.models.convnet.ConvNet", "widths": [8]},
    "dim": 4,
    "image_size": 16,
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
    "preprocess": {"short_side": 16, "quality": 95},
}
PICKLED = re.compile(rb"\x80[\x02-\x05]|PK\x03\x04")  # also within what torch.save writes


def test_no_module_executes_what_it_reads_or_passes_the_environment_on():
    texts = {str(path.relative_to(ROOT)): path.read_text() for path in SOURCES}
    assert len(texts) > 100
    for name, text in texts.items():
        assert (executes(text), whole_environments(text)) == ([], []), name
        assert "0.0.0.0" not in text, name


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from cloudpickle import loads",
        "torch.load(path)",
        "eval(text)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "yaml.load(text)",
        "subprocess.run(command, shell=True)",
        "timm.create_model(name, trust_remote_code=True)",
    ],
)
def test_the_search_finds(source):
    assert executes(source)


@pytest.mark.parametrize(
    "source",
    [
        "print(os.environ)",
        "dict(os.environ)",
        "f(env=os.environ)",
        "[i for i in os.environ.items()]",
    ],
)
def test_the_search_finds_environments(source):
    assert whole_environments(source)


def test_the_search_lets_variables_pass_by_name():
    source = "os.environ['A']; os.environ.get('A'); 'A' in os.environ; "
    assert not whole_environments(source + "[i for i in os.environ.items() if i[0] == 'A']")


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


@pytest.fixture
def bomb(tmp_path):
    """(Pickled bytes, the file that appears if they are ever loaded)."""
    trace = tmp_path / "executed"
    data = pickle.dumps(Bomb(trace))
    pickle.loads(data)
    assert trace.exists()
    trace.unlink()
    return data, trace


def test_a_model_that_is_a_pickle_is_not_loaded(tmp_path, bomb):
    data, trace = bomb
    save_embedder(tmp_path, build_embedder(CONFIG, 0), CONFIG)
    buffer = io.BytesIO()
    torch.save({"x": Bomb(trace)}, buffer)
    for content in (data, buffer.getvalue()):
        (tmp_path / "model.safetensors").write_bytes(content)
        with pytest.raises(UserError, match="is damaged"):
            load_embedder(tmp_path)
    assert not trace.exists()


def test_a_model_that_names_a_function_of_others_is_not_loaded(tmp_path):
    save_embedder(tmp_path, build_embedder(CONFIG, 0), CONFIG)
    config = json.loads((tmp_path / "config.json").read_text())
    config["trunk"] = {"_target_": "os.mkdir", "path": str(tmp_path / "executed")}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="out of bounds"):
        load_embedder(tmp_path)
    assert not (tmp_path / "executed").exists()


def test_a_checkpoint_that_is_a_pickle_is_not_loaded(tmp_path, bomb):
    """Not even one whose checksum is right."""
    data, trace = bomb
    store = open_store(tmp_path / "checkpoints")
    checkpoint.save(store, 7, {"a": torch.ones(2)}, {})
    state = json.loads(store.read("000000007.json"))
    state |= {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    store.write(state["tensors"], data)
    store.write("000000007.json", json.dumps(state).encode())
    said = []
    assert checkpoint.load_latest(store, said.append) is None
    assert "cannot be read" in said[0]
    store.write("000000007.json", data)
    assert checkpoint.load_latest(store, said.append) is None
    assert not trace.exists()


def test_the_model_for_mlflow_needs_no_pickle(tmp_path, monkeypatch):
    """test_serving.py loads one from a registry; here it is written without one."""
    folder, kept = tmp_path / "model", tmp_path / "kept"
    folder.mkdir()
    save_embedder(folder, build_embedder(CONFIG, 0), CONFIG)
    image = io.BytesIO()
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(image, "PNG")

    def save(name, **settings):
        mlflow.pyfunc.save_model(path=kept, **settings)
        raise Written

    monkeypatch.setattr(mlflow.pyfunc, "log_model", save)
    with pytest.raises(Written):
        mlflow_model._log(folder, "embedder", image.getvalue())
    files = {path.name: path.read_bytes() for path in kept.rglob("*") if path.is_file()}
    assert {"MLmodel", "model.safetensors", "mlflow_model.py"} <= set(files)
    assert [name for name, data in files.items() if PICKLED.match(data)] == []
    assert [name for name in files if name.endswith((".pkl", ".pickle", ".pt", ".pth"))] == []

    for module in (pickle, cloudpickle):
        monkeypatch.setattr(module, "load", refuse)
        monkeypatch.setattr(module, "loads", refuse)
    monkeypatch.setattr(torch, "load", refuse)
    served = mlflow.pyfunc.load_model(str(kept)).predict([image.getvalue()])
    assert served.shape == (1, 4)


class Written(Exception):
    pass


def refuse(*_, **__):
    raise AssertionError("unpickled")


LISTEN = """
import sys
sys.path.insert(0, sys.argv[1])
import ray  # before, as pipelines.preprocess does
import psutil
sys.path.append(sys.argv[1] + '/tests/helpers')
from tiny_project import cluster_config
from rhs.distributed.ray_cluster import connect

connect(cluster_config(num_cpus=1))
for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
    for socket in process.net_connections("inet"):
        if socket.status == psutil.CONN_LISTEN:
            print(process.name().split(":")[0], socket.laddr.ip.removeprefix("::ffff:"))
"""


@pytest.mark.slow
def test_a_local_ray_listens_on_this_machine_alone():
    done = subprocess.run(
        [sys.executable, "-c", LISTEN, str(ROOT)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    sockets = [line.split() for line in done.stdout.splitlines()]
    assert {"raylet", "gcs_server"} <= {name for name, _ in sockets}
    assert [pair for pair in sockets if pair[1] != "127.0.0.1"] == []


@pytest.mark.parametrize("address", [None, "ray.example:6379"])
def test_ray_is_given_the_variables_that_it_needs_and_no_others(monkeypatch, address):
    import ray
    from ray._private import ray_constants

    given = []
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden-1234")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **settings: given.append(settings))
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 64.0})
    monkeypatch.setattr(ray_constants, "ENABLE_RAY_CLUSTER", True)  # Ray is imported already
    monkeypatch.setattr(ray_cluster, "check_answer", lambda *_: None)
    ray_cluster.connect(cluster_config(address=address))
    (settings,) = given
    assert (address is not None) == ray_constants.ENABLE_RAY_CLUSTER  # False: loopback only
    variables = settings.get("runtime_env", {}).get("env_vars", {})
    assert set(variables) <= {"PYTHONPATH", "GLOO_SOCKET_IFNAME"}
    assert bool(variables) == (address is None)
    assert "hidden-1234" not in str(settings)


def test_reports_are_about_the_versions_that_are_pinned():
    text = (ROOT / "docs/security.md").read_text()
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    rows = re.findall(r"^\| `([\w-]+)` (\S+) \| (?:CVE|GHSA)-", text, re.MULTILINE)
    assert len(rows) >= 3
    assert [row for row in rows if f"{row[0]}=={row[1]}" not in pins] == []
