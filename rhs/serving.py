"""The model in MLflow: encoded images in, embeddings out.

MLflow stores this file's text with the model and runs it to load one ("models from code"); the
weights beside it are safetensors. Nothing is unpickled.
"""

from pathlib import Path

import mlflow
import numpy as np
from mlflow.models import ModelSignature, set_model
from mlflow.pyfunc import PythonModel
from mlflow.types import ColSpec, Schema, TensorSpec


class ImageEmbedder(PythonModel):
    """`predict` takes a table with a column `image` of encoded JPEG or PNG bytes."""

    def load_context(self, context) -> None:
        from rhs.models.embedder import load_config, load_embedder

        folder = Path(context.artifacts["model"])
        self.embedder, self.preprocess = load_embedder(folder), load_config(folder)["preprocess"]

    def predict(self, context, model_input, params=None) -> np.ndarray:
        """L2-normalized embeddings, float32 [N, D]."""
        import torch

        from rhs.data.images import decode, prepare_image
        from rhs.data.transforms import view

        size = self.embedder.image_size
        prepared = [prepare_image(data, **self.preprocess).data for data in model_input["image"]]
        pixels = np.stack([view(decode(data), size) for data in prepared])
        return self.embedder.embed(torch.from_numpy(pixels).permute(0, 3, 1, 2)).numpy()


def register(model: Path, name: str, score: float | None) -> str:
    """Log a saved model to the active MLflow run and register it; returns its version.

    The alias `champion` moves to it unless the present champion has a higher score.

    Args:
        model: folder that `rhs.models.embedder.save_embedder` wrote.
        name: of the registered model.
        score: validation Recall@1, or None where no classes are held out.
    """
    from rhs.models.embedder import load_config

    dim = load_config(model)["dim"]
    signature = ModelSignature(
        inputs=Schema([ColSpec("binary", "image")]),
        outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, dim))]),
    )
    info = mlflow.pyfunc.log_model(
        name="embedder",
        python_model=str(Path(__file__)),
        artifacts={"model": str(model)},
        signature=signature,
        code_paths=[str(Path(__file__).parent)],
        pip_requirements=_requirements(),
        registered_model_name=name,
    )
    client, version = mlflow.MlflowClient(), str(info.registered_model_version)
    if score is not None:
        client.set_model_version_tag(name, version, "val_recall_at_1", f"{score:.6f}")
    if score is None or score >= _champion_score(client, name):
        client.set_registered_model_alias(name, "champion", version)
    return version


def _champion_score(client: "mlflow.MlflowClient", name: str) -> float:
    try:
        champion = client.get_model_version_by_alias(name, "champion")
    except mlflow.MlflowException:
        return float("-inf")
    return float(champion.tags.get("val_recall_at_1", "-inf"))


def _requirements() -> list[str]:
    from importlib.metadata import version

    packages = ("torch", "torchvision", "timm", "safetensors", "pillow", "numpy", "omegaconf")
    return [f"{package}=={version(package).split('+')[0]}" for package in packages]


set_model(ImageEmbedder())
