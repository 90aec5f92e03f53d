"""A model as ONNX, compared with the model it was made from before anybody gets it."""

from __future__ import annotations

import io
import json
import logging
import warnings
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from rhs.errors import UserError
from rhs.models.embedder import Embedder, load_config, load_embedder, model_digest
from rhs.storage.atomic import atomic_file

TOLERANCE = 1e-4  # greatest difference of a component; unit vectors, rounded in another order
BATCHES = (1, 2, 5)  # the graph is traced with another
IMAGES, EMBEDDINGS = "images", "embeddings"
OPSET = 20  # of the operators; stated, so that another torch gives the same
INPUT = (
    "uint8 [B, 3, S, S], sRGB, channels red, green, blue; upright, on white where transparent, "
    "stretched to the square by antialiased bilinear resampling"
)


class Unit(nn.Module):
    """An embedder whose forward pass normalizes."""

    def __init__(self, embedder: Embedder) -> None:
        super().__init__()
        self.embedder = embedder

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Unit embeddings float32 [B, D] of uint8 RGB images [B, 3, H, W]."""
        return F.normalize(self.embedder(images).float())


def export_onnx(folder: Path, out: Path, tolerance: float = TOLERANCE) -> float:
    """Write a saved model as one ONNX file: uint8 images [B, 3, S, S], any B, to unit embeddings
    [B, D].

    The file's metadata has the model's digest (`rhs.model`), its settings (`rhs.config`) and what
    images it takes (`rhs.input`). It appears whole, and only if it agrees with the model.

    Args:
        tolerance: greatest difference of any component, on noise and on smooth images.

    Returns:
        The greatest difference that there was.

    Raises:
        UserError: no model in `folder`, packages are missing, the trunk cannot be exported, or the
            two disagree.
    """
    _packages()
    config = load_config(folder)
    embedder = load_embedder(folder)
    with atomic_file(out) as partial:
        about = {"rhs.model": model_digest(folder), "rhs.config": config, "rhs.input": INPUT}
        _write(partial, embedder, about)
        worst = difference(partial, embedder)
        if not worst <= tolerance:  # NaN too
            raise UserError(
                f"The ONNX model of {folder} differs from it by {worst:.1e} in some component, "
                f"where {tolerance:.0e} is the most: {out} was not written."
            )
    return worst


def difference(path: Path, embedder: Embedder) -> float:
    """Greatest difference of any component between an ONNX file and its model.

    Images are noise, and as smooth as photographs: what is rounded in one may not be in the other.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    random = torch.Generator().manual_seed(0)
    size, worst = embedder.image_size, torch.zeros(())
    for batch in BATCHES:
        noise = torch.randint(0, 256, (batch, 3, size, size), generator=random, dtype=torch.uint8)
        coarse = 255 * torch.rand(batch, 3, 4, 4, generator=random)
        smooth = F.interpolate(coarse, (size, size), mode="bilinear").to(torch.uint8)
        for images in (noise, smooth):
            (made,) = session.run([EMBEDDINGS], {IMAGES: images.numpy()})
            apart = (torch.from_numpy(made) - embedder.embed(images)).abs().max()
            worst = torch.maximum(worst, apart)  # unlike Python's, it keeps NaN
    return float(worst)


def _packages() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"Package {error.name!r} is needed to export: pip install -c constraints.txt '.[onnx]'."
        ) from error


def _write(path: Path, embedder: Embedder, metadata: dict[str, Any]) -> None:
    """Raises UserError if torch cannot express the model in ONNX."""
    size = embedder.image_size
    images = torch.zeros(3, 3, size, size, dtype=torch.uint8)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")  # of the exporter's own code
            program = torch.onnx.export(
                Unit(embedder).eval(),
                (images,),
                dynamo=True,
                opset_version=OPSET,
                input_names=[IMAGES],
                output_names=[EMBEDDINGS],
                dynamic_shapes={IMAGES: {0: torch.export.Dim("batch")}},
                verbose=False,
            )
    except (torch.onnx.errors.OnnxExporterError, torch._dynamo.exc.UserError) as error:
        first = str(error).strip().splitlines()[0]
        raise UserError(f"This model cannot be exported to ONNX ({first}).") from error
    assert program is not None
    for key, value in metadata.items():
        text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
        program.model.metadata_props[key] = text
    program.save(str(path), external_data=False)
