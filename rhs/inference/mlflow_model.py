"""The model in MLflow: encoded images in, embeddings out.

MLflow stores this file's text with the model and runs it to load one ("models from code"); the
weights beside it are safetensors. Nothing is unpickled.
"""

import io
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.entities.model_registry import ModelVersion
from mlflow.models import ModelSignature, set_model
from mlflow.pyfunc import PythonModel, PythonModelContext
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


class MLflowEmbedder(PythonModel):
    """`predict` takes encoded images (JPEG, PNG, ...) and returns their embeddings."""

    def load_context(self, context: PythonModelContext) -> None:
        from rhs.inference.image_embedder import ImageEmbedder

        self.model = ImageEmbedder(Path(context.artifacts["model"]))

    def predict(
        self,
        context: PythonModelContext,
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> np.ndarray:
        """L2-normalized embeddings, float32 [N, D].

        Args:
            model_input: one column of bytes; a list of bytes is made one by MLflow.

        Raises:
            UserError: bytes that are not a readable image; names the row.
        """
        encoded = list(model_input.iloc[:, 0])
        parts = [np.empty((0, self.model.dim), np.float32)]
        for start in range(0, len(encoded), BATCH):  # no more pixels than these at a time
            rows = range(start, min(start + BATCH, len(encoded)))
            parts.append(self.model.embed([self._pixels(row, encoded[row]) for row in rows]))
        return np.concatenate(parts)

    def _pixels(self, row: int, data: bytes) -> np.ndarray:
        from rhs.errors import UserError
        from rhs.preprocessing.prepare_image import BadImage

        try:
            return self.model.pixels(self.model.prepare(data))
        except BadImage as bad:
            raise UserError(f"Row {row} is no image that can be embedded: {bad}.") from bad


def register(
    model: Path,
    name: str,
    score: float | None,
    run_id: str,
    data_digest: str,
    example: bytes,
    *,
    index: Path | None = None,
) -> str:
    """Log a saved model and its index to the active MLflow run and register them, once the same.

    The alias `champion` moves to it unless the present one has a higher score on the same data.

    Args:
        model: folder that `rhs.models.embedder.save_embedder` wrote.
        name: of the registered model.
        score: validation Recall@1, or None where no classes are held out.
        run_id: of the active run.
        example: an encoded image, to be shown as an example of the input.
        index: folder that `rhs.inference.index_builder.build_index` wrote, if there is one.

    Returns:
        The id of the logged model.
    """
    from rhs.models.embedder import model_digest

    client = mlflow.MlflowClient()
    tags = {"digest": model_digest(model)}
    if index is not None:
        from rhs.inference.index import index_digest

        tags["index.digest"] = index_digest(index)
    logged = client.search_model_versions(f"run_id = '{run_id}'")  # a name may have quotes in it
    of_it = [version for version in logged if version.name == name]
    same = [v for v in of_it if all(v.tags.get(key) == tag for key, tag in tags.items())]
    version = same[0] if same else _log(model, name, example, index)
    tags["data.digest"] = data_digest
    if score is not None:
        tags["val_recall_at_1"] = f"{score:.6f}"
    for key, value in tags.items():
        client.set_model_version_tag(name, version.version, key, value)
    if score is None or score >= _champion_score(client, name, data_digest):
        client.set_registered_model_alias(name, CHAMPION, version.version)
    return str(version.source).removeprefix("models:/")


def _log(model: Path, name: str, example: bytes, index: Path | None = None) -> ModelVersion:
    from rhs.models.embedder import load_config

    output = TensorSpec(np.dtype(np.float32), (-1, load_config(model)["dim"]))
    info = mlflow.pyfunc.log_model(
        name="embedder",
        python_model=str(Path(__file__)),
        artifacts={"model": str(model)} | ({"index": str(index)} if index is not None else {}),
        signature=ModelSignature(Schema([ColSpec("binary")]), Schema([output])),
        input_example=pd.DataFrame({"image": [example]}),
        code_paths=[str(Path(__file__).parents[1])],
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


def _requirements() -> list[str]:
    from importlib.metadata import version

    return [f"{package}=={version(package).split('+')[0]}" for package in PACKAGES]


set_model(MLflowEmbedder())
