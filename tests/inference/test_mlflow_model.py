"""The registered model: registered once, loaded from its own folder, and the same embeddings."""

import io
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from PIL import Image
from searchable import save_model

from rhs.data.decode import decode
from rhs.data.transforms import view
from rhs.inference.mlflow_model import register
from rhs.models.embedder import load_embedder

pytestmark = pytest.mark.filterwarnings("ignore:Operation with range")  # within MLflow
NAME = "rhs-tiny"


def encoded(mode: str, size: tuple[int, int] = (20, 24)) -> bytes:
    pixels = np.random.default_rng(7).integers(0, 256, (*size, 4), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels, "RGBA").convert(mode).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder with an MLflow database; `mlflow` writes to it."""
    folder = tmp_path_factory.mktemp("project")
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    mlflow.create_experiment("tiny", artifact_location=(folder / "mlartifacts").as_uri())
    mlflow.set_experiment("tiny")
    return folder


def log(project, seed, score=None, data="data-1", run_id=None):
    """Register the model of a seed from a run; returns (run id, logged model's id)."""
    mlflow.set_tracking_uri(f"sqlite:///{project}/mlflow.db")
    model = save_model(project / f"model-{seed}", seed)
    with mlflow.start_run(run_id=run_id) as active:
        run_id = active.info.run_id
        return run_id, register(model, NAME, score, run_id, data, encoded("RGB"))


def champion() -> str:
    return MlflowClient().get_model_version_by_alias(NAME, "champion").source


def test_versions_and_the_champion(project):
    run_1, model_1 = log(project, seed=1, score=0.5)
    assert champion() == f"models:/{model_1}"
    assert log(project, seed=1, score=0.6, run_id=run_1) == (run_1, model_1), "registered twice"
    (version,) = MlflowClient().search_model_versions(f"name = '{NAME}'")
    assert version.tags["val_recall_at_1"] == "0.600000"
    assert version.run_id == run_1
    _, lower = log(project, seed=2, score=0.55)
    assert champion() == f"models:/{model_1}"
    _, higher = log(project, seed=2, score=0.7)
    assert champion() == f"models:/{higher}"
    _, other_data = log(project, seed=3, score=0.1, data="data-2")
    assert champion() == f"models:/{other_data}", "a score on other data is no reason to stay"
    _, unscored = log(project, seed=4, score=None, data="data-2")
    assert champion() == f"models:/{unscored}"
    assert len({model_1, lower, higher, other_data, unscored}) == 5


FRESH = """
import sys
import mlflow, numpy
uri, name, folder = sys.argv[1:]
mlflow.set_tracking_uri(uri)
assert "rhs" not in sys.modules
model = mlflow.pyfunc.load_model(f"models:/{name}@champion")
import rhs
images = [open(f"{folder}/{i}.png", "rb").read() for i in range(4)]
numpy.save(f"{folder}/served.npy", model.predict(images))
try:
    model.predict([images[0], b"junk"])
except ValueError as error:
    print(error)
print(rhs.__file__)
"""


def test_in_a_fresh_process_outside_of_the_repository(project, tmp_path):
    run_id, logged = log(project, seed=5, score=None)
    images = [encoded("RGB"), encoded("L"), encoded("RGBA"), encoded("RGB", (60, 90))]
    for i, data in enumerate(images):
        (tmp_path / f"{i}.png").write_bytes(data)
    uri = f"sqlite:///{project}/mlflow.db"
    command = [sys.executable, "-I", "-c", FRESH, uri, NAME]
    done = subprocess.run(
        [*command, str(tmp_path)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    mistake, where = done.stdout.splitlines()
    assert mistake == "Row 1 is no image that can be embedded: not an image."
    folder = project / "mlartifacts" / "models" / logged / "artifacts"
    assert Path(where).is_relative_to(folder / "code")
    assert [f.name for f in folder.rglob("*") if f.suffix in (".pkl", ".pickle", ".pt")] == []

    served = np.load(tmp_path / "served.npy")
    embedder = load_embedder(project / "model-5")
    white = Image.open(io.BytesIO(images[2]))
    white = Image.alpha_composite(Image.new("RGBA", white.size, "white"), white).convert("RGB")
    seen = [decode(images[0]), decode(images[1]), np.array(white)]
    pixels = torch.from_numpy(np.stack([view(image, 16) for image in seen])).permute(0, 3, 1, 2)
    assert served.dtype == np.float32
    assert served.shape == (4, 6)
    np.testing.assert_allclose(served[:3], embedder.embed(pixels).numpy(), atol=1e-6)

    signature = mlflow.models.get_model_info(f"models:/{logged}").signature
    assert signature.inputs.input_types() == [mlflow.types.DataType.binary]
    assert signature.outputs.inputs[0].shape == (-1, 6)
    assert MlflowClient().get_run(run_id).outputs.model_outputs[0].model_id == logged
