"""The model in MLflow: encoded images in, embeddings out.

MLflow stores this file's text with the model and runs it to load one ("models from code"); the
weights beside it are safetensors. Nothing is unpickled.
"""

import hashlib
import io
from contextlib import redirect_stderr
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
from mlflow.entities.model_registry import ModelVersion
from mlflow.models import ModelSignature, set_model
from mlflow.pyfunc import PythonModel
from mlflow.types import ColSpec, Schema, TensorSpec

CHAMPION = "champion"
BATCH = 64  # images embedded at a time
PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "safetensors",
    "pillow",
    "simplejpeg",
    "numpy",
    "pandas",
)


class ImageEmbedder(PythonModel):
    """`predict` takes encoded images (JPEG, PNG, ...) and returns their embeddings."""

    def load_context(self, context) -> None:
        from rhs.models.embedder import load_config, load_embedder

        folder = Path(context.artifacts["model"])
        self.embedder, self.preprocess = load_embedder(folder), load_config(folder)["preprocess"]

    def predict(self, context, model_input: pd.DataFrame, params=None) -> np.ndarray:
        """L2-normalized embeddings, float32 [N, D].

        Args:
            model_input: one column of bytes; a list of bytes is made one by MLflow.

        Raises:
            UserError: bytes that are not a readable image; names the row.
        """
        import torch

        encoded = list(model_input.iloc[:, 0])
        parts = [torch.empty(0, self.embedder.dim)]
        for start in range(0, len(encoded), BATCH):
            rows = range(start, min(start + BATCH, len(encoded)))
            pixels = np.stack([self._pixels(row, encoded[row]) for row in rows])
            parts.append(self.embedder.embed(torch.from_numpy(pixels).permute(0, 3, 1, 2)))
        return torch.cat(parts).numpy()

    def _pixels(self, row: int, data: bytes) -> np.ndarray:
        """What preprocess and the loader make of an image, uint8 [S, S, 3]."""
        from rhs.data.decode import decode
        from rhs.data.images import BadImage, prepare_image
        from rhs.data.transforms import view
        from rhs.errors import UserError

        try:
            prepared = prepare_image(data, **self.preprocess)
        except BadImage as bad:
            raise UserError(f"Row {row} is no image that can be embedded: {bad}.") from bad
        return view(decode(prepared.data), self.embedder.image_size)


def register(
    model: Path, name: str, score: float | None, run_id: str, data_digest: str, example: bytes
) -> str:
    """Log a saved model to the active MLflow run and register it, once for the same weights.

    The alias `champion` moves to it unless the present champion has a higher score on the same
    data; scores on other data say nothing about this one.

    Args:
        model: folder that `rhs.models.embedder.save_embedder` wrote.
        name: of the registered model.
        score: validation Recall@1, or None where no classes are held out.
        run_id: of the active run.
        example: an encoded image, to be shown as an example of the input.

    Returns:
        The id of the logged model.
    """
    client = mlflow.MlflowClient()
    digest = _digest(model)
    query = f"name = '{name}' and run_id = '{run_id}'"
    same = [v for v in client.search_model_versions(query) if v.tags.get("digest") == digest]
    version = same[0] if same else _log(model, name, example)
    tags = {"digest": digest, "data.digest": data_digest}
    if score is not None:
        tags["val_recall_at_1"] = f"{score:.6f}"
    for key, value in tags.items():
        client.set_model_version_tag(name, version.version, key, value)
    if score is None or score >= _champion_score(client, name, data_digest):
        client.set_registered_model_alias(name, CHAMPION, version.version)
    return str(version.source).removeprefix("models:/")


def _log(model: Path, name: str, example: bytes) -> ModelVersion:
    from rhs.models.embedder import load_config

    output = TensorSpec(np.dtype(np.float32), (-1, load_config(model)["dim"]))
    info = mlflow.pyfunc.log_model(
        name="embedder",
        python_model=str(Path(__file__)),
        artifacts={"model": str(model)},
        signature=ModelSignature(Schema([ColSpec("binary")]), Schema([output])),
        input_example=pd.DataFrame({"image": [example]}),
        code_paths=[str(Path(__file__).parent)],
        pip_requirements=_requirements(),
    )
    with redirect_stderr(io.StringIO()):  # it tells of every version in words of its own
        return mlflow.register_model(info.model_uri, name)


def _champion_score(client: mlflow.MlflowClient, name: str, data_digest: str) -> float:
    try:
        tags = client.get_model_version_by_alias(name, CHAMPION).tags
    except mlflow.MlflowException:
        return float("-inf")
    same_data = tags.get("data.digest") == data_digest
    return float(tags.get("val_recall_at_1", "-inf")) if same_data else float("-inf")


def _digest(model: Path) -> str:
    """SHA-256 over the weights and the configuration."""
    from rhs.models.embedder import CONFIG, WEIGHTS

    digest = hashlib.sha256()
    for file in (WEIGHTS, CONFIG):
        digest.update((model / file).read_bytes())
    return digest.hexdigest()


def _requirements() -> list[str]:
    from importlib.metadata import version

    return [f"{package}=={version(package).split('+')[0]}" for package in PACKAGES]


set_model(ImageEmbedder())
