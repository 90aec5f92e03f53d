"""Models that MLflow keeps: found with their indexes, and served over HTTP."""

import base64
import os
import signal
import socket
import subprocess
import sys
import tarfile
import time
from contextlib import suppress
from pathlib import Path

import mlflow
import numpy as np
import pytest
import requests
from mlflow import MlflowClient
from photos import encoded, photo
from PIL import Image
from searchable import make_searchable
from tiny_project import ROOT

from rhs.errors import UserError
from rhs.inference.image_embedder import ImageEmbedder
from rhs.inference.index import open_index
from rhs.inference.locate_model import locate_model
from rhs.inference.mlflow_model import register

pytestmark = pytest.mark.filterwarnings("ignore:Operation with range")  # within MLflow
BIRDS = ROOT.parent / "shared/datasets/cub2011-100.tar"
EXAMPLE = encoded(photo(1))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """The address of an MLflow database, which this process writes to."""
    folder = tmp_path_factory.mktemp("store")
    uri = f"sqlite:///{folder}/mlflow.db"
    mlflow.set_tracking_uri(uri)
    mlflow.create_experiment("tiny", artifact_location=(folder / "mlartifacts").as_uri())
    return uri


@pytest.fixture(scope="module")
def indexed(store, tmp_path_factory):
    """What a run has registered with its index as rhs-indexed, and the run's id."""
    made = make_searchable(tmp_path_factory.mktemp("indexed"), seed=6)
    mlflow.set_experiment("tiny")
    with mlflow.start_run() as active:
        run_id = active.info.run_id
        arguments = (run_id, "data-3", EXAMPLE)
        first = register(made.model, "rhs-indexed", 0.5, *arguments, index=made.index)
        again = register(made.model, "rhs-indexed", 0.5, *arguments, index=made.index)
        assert again == first, "registered twice"
    return made, run_id


@pytest.fixture
def asked(store, monkeypatch, tmp_path):
    """`resolve` asks that MLflow, from a folder that has no model."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    monkeypatch.chdir(tmp_path)


def test_a_registered_model_is_found_with_its_index(indexed, asked, tmp_path):
    made, run_id = indexed
    place = locate_model("rhs-indexed@champion")
    assert place.model != made.model
    for file in made.model.iterdir():
        assert (place.model / file.name).read_bytes() == file.read_bytes()
    index = open_index(place.index, place.model)
    (hits,) = index.search(made.embedded["test"].embeddings[3:4], 1)
    assert hits[0].item.name == made.embedded["test"].names[3]
    for where in ("models:/rhs-indexed@champion", "models:/rhs-indexed/1", run_id):
        assert locate_model(where) == place
    recorded = tmp_path / "runs/tiny-run"
    recorded.mkdir(parents=True)
    (recorded / "mlflow_run_id").write_text(run_id + "\n")
    assert locate_model("tiny-run") == place


def test_another_index_is_another_version(indexed, tmp_path):
    made, _ = indexed
    other = make_searchable(tmp_path, seed=6, thumbnail=4)
    with mlflow.start_run() as run:
        models = [
            register(made.model, "rhs-two", None, run.info.run_id, "data-3", EXAMPLE, index=index)
            for index in (made.index, other.index, None)
        ]
    versions = MlflowClient().search_model_versions("name = 'rhs-two'")
    assert len(versions) == len({version.tags["index.digest"] for version in versions}) == 2
    assert models[0] != models[1]
    assert models[2] in models[:2], "without an index any of the same weights will do"


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("nobody@champion", "has no nobody@champion"),
        ("rhs-indexed@loser", "has no rhs-indexed@loser"),
        ("models:/rhs-indexed/99", "has no models:/rhs-indexed/99"),
        ("models:/rhs-indexed", "names no registered model; accepted: NAME@ALIAS"),
        ("0" * 32, f"has no run {'0' * 32}"),
    ],
)
def test_what_mlflow_does_not_have_is_a_sentence(indexed, asked, where, said):
    with pytest.raises(UserError, match=said) as refused:
        locate_model(where)
    assert "\n" not in str(refused.value)


def test_a_run_without_a_model_is_a_sentence(indexed, asked):
    with mlflow.start_run() as active:
        run_id = active.info.run_id
    with pytest.raises(UserError, match=f"MLflow run {run_id} has no model"):
        locate_model(run_id)


def test_mlflow_that_is_away_is_a_sentence(asked, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(UserError, match=r"MLflow at http://127.0.0.1:\d+ does not answer"):
        locate_model("rhs-indexed@champion")


def test_files_on_another_machine_are_fetched_once(indexed, asked, tmp_path, monkeypatch):
    made, run_id = indexed
    fetched, real = [], mlflow.artifacts.download_artifacts

    def download(artifact_uri, dst_path):
        fetched.append(artifact_uri)
        return real(artifact_uri=artifact_uri, dst_path=dst_path)

    monkeypatch.setattr("rhs.inference.mlflow_registry._on_this_machine", lambda _: None)
    monkeypatch.setattr("mlflow.artifacts.download_artifacts", download)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    place = locate_model(run_id)
    assert place.model.is_relative_to(tmp_path / "cache/rhs-dml")
    assert len(open_index(place.index, place.model)) == 17
    assert (place.model / "config.json").read_text() == (made.model / "config.json").read_text()
    assert locate_model("rhs-indexed@champion") == place
    assert len(fetched) == 1


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


@pytest.fixture
def served(indexed, asked, tmp_path):
    """The address of `mlflow models serve`, with the registered model."""
    port, log = free_port(), tmp_path / "serve.log"
    command = [
        Path(sys.executable).parent / "mlflow",
        "models",
        "serve",
        "-m",
        "models:/rhs-indexed@champion",
        "--env-manager",
        "local",
        "-h",
        "127.0.0.1",
        "-p",
        str(port),
    ]
    path = {"PATH": f"{command[0].parent}:{os.environ['PATH']}"}  # it starts uvicorn by name
    with log.open("w") as stream:
        # A session of its own: the server is a child of what is started here.
        process = subprocess.Popen(
            command, stdout=stream, stderr=stream, start_new_session=True, env=os.environ | path
        )
    address, end = f"http://127.0.0.1:{port}", time.monotonic() + 90
    try:
        while True:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            with suppress(requests.ConnectionError):
                if requests.get(f"{address}/ping", timeout=5).ok:
                    break
            time.sleep(0.1)
        yield address
    finally:
        with suppress(ProcessLookupError):  # it ended by itself, and its log is told
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_served_over_http(served, indexed):
    """Images in base64, in a column `image`: what docs/retrieval.md sends with curl."""
    made, _ = indexed
    on_its_side = Image.Exif()
    on_its_side[0x0112] = 6
    images = [
        encoded(photo(5, (300, 200)), "JPEG", exif=on_its_side),
        encoded(photo(6).convert("L"), "TIFF"),
        *birds(),
    ]
    answer = ask(served, images)
    assert answer.status_code == 200, answer.text
    x_ND = np.array(answer.json()["predictions"], np.float32)
    model = ImageEmbedder(made.model)
    expected = model.embed([model.pixels(model.prepare(data)) for data in images])
    np.testing.assert_allclose(x_ND, expected, atol=1e-6)
    refusal = ask(served, [images[0], b"junk"])
    assert refusal.status_code == 400
    assert "Row 1 is no image that can be embedded: not an image." in refusal.text


def ask(address: str, images: list[bytes]) -> requests.Response:
    rows = [[base64.b64encode(data).decode()] for data in images]
    body = {"dataframe_split": {"columns": ["image"], "data": rows}}
    return requests.post(f"{address}/invocations", json=body, timeout=30)


def birds() -> list[bytes]:
    """Two photographs, where the data sets for tests are at hand."""
    if not BIRDS.exists():
        return []
    with tarfile.open(BIRDS) as archive:
        found = (archive.extractfile(m) for m in archive if m.name.endswith(".jpg"))
        return [next(found).read() for _ in range(2)]
