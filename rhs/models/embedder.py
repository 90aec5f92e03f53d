"""Image -> embedding: pixels, trunk, linear head."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from rhs.config.instantiate import build
from rhs.config.settings import ModelConfig
from rhs.config.target_checks import check_target
from rhs.errors import UserError, format_value

WEIGHTS, CONFIG = "model.safetensors", "config.json"
NEEDED = ("trunk", "dim", "image_size", "mean", "std")  # to build a model from
WITHIN = "rhs.models."  # what trunks come from


class Embedder(nn.Module):
    """A trunk with a linear embedding head.

    Batch normalization of the trunk runs on its stored statistics, in training too, as is usual
    when fine-tuning for retrieval: batches of few classes would leak their composition into the
    statistics, and shares of a batch on different workers would disagree about them.

    Args:
        trunk: maps [B, 3, H, W] to [B, trunk.num_features].
        dim: embedding size D.
        image_size: side of the square images it takes, in pixels.
        mean, std: of the pixels in [0, 1], one number per channel.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, trunk: nn.Module, dim: int, image_size: int, mean: list, std: list):
        super().__init__()
        self.trunk, self.dim, self.image_size = trunk, dim, image_size
        self.head = nn.Linear(feature_size(trunk), dim)
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1) * 255, persistent=False)

    def forward(self, image_B3HW: torch.Tensor) -> torch.Tensor:
        """Embeddings [B, D], not normalized, of uint8 RGB images [B, 3, H, W]."""
        return self.head(self.features(image_B3HW))

    def features(self, image_B3HW: torch.Tensor) -> torch.Tensor:
        """What the trunk makes of uint8 RGB images [B, 3, H, W]: [B, F]."""
        pixels = (image_B3HW.float() - self.mean) / self.std
        return self.trunk(pixels.contiguous(memory_format=torch.channels_last))

    @torch.inference_mode()
    def embed(self, image_B3HW: torch.Tensor) -> torch.Tensor:
        """L2-normalized float32 embeddings [B, D] of uint8 RGB images [B, 3, H, W]."""
        return F.normalize(self(image_B3HW).float())

    def train(self, mode: bool = True) -> "Embedder":
        super().train(mode)
        for module in self.trunk.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self


class Head(nn.Module):
    """The head of an embedder by itself, to train on features of the trunk.

    Args:
        embedder: shares its head with this one.
    """

    def __init__(self, embedder: Embedder):
        super().__init__()
        self.head, self.dim = embedder.head, embedder.dim

    def forward(self, x_BF: torch.Tensor) -> torch.Tensor:
        """Embeddings [B, D], not normalized, of features [B, F]."""
        return self.head(x_BF)

    @torch.inference_mode()
    def embed(self, x_BF: torch.Tensor) -> torch.Tensor:
        """L2-normalized float32 embeddings [B, D] of features [B, F]."""
        return F.normalize(self(x_BF).float())


def feature_size(trunk: nn.Module) -> int:
    """What a trunk's output has; some of timm's widen it behind `num_features`."""
    return int(getattr(trunk, "head_hidden_size", None) or trunk.num_features)  # type: ignore


def build_embedder(config: dict, seed: int = 0) -> Embedder:
    """The model that a `model` group describes, its fresh parts initialized from `seed`.

    Args:
        config: `trunk`, `dim`, `image_size`, `mean` and `std`; other keys only describe it.
    """
    settings = {key: config[key] for key in NEEDED}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        # A configuration may have come with a model from anywhere.
        embedder = Embedder(**build(settings, within=WITHIN))
    return embedder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def check_model(model: ModelConfig) -> None:
    """Build the model and run one black image through it.

    Raises:
        UserError: it cannot be built, its trunk refuses that image size, or its name says that it
            is a model of timm and it is not.
    """
    if not isinstance(model.trunk, dict) or "_target_" not in model.trunk:
        raise UserError(
            f"model.trunk is {model.trunk!r}; it describes a network. To train the head alone "
            "set train.trunk=frozen."
        )
    check_target("model.trunk", model.trunk, WITHIN)
    own = model.trunk["_target_"].rpartition(".")[2]
    if own != "timm_trunk" and not model.name.lower().startswith(own.lower()):
        raise UserError(
            f"model.name is {model.name!r}, but the chosen model is {own}: add model=timm to "
            "take any model of timm by its name."
        )
    try:
        embedder = build_embedder(asdict(model)).eval()
    except (RuntimeError, MemoryError) as error:  # of torch: more memory than there is
        said = str(error).strip().splitlines()[0]
        trunk = format_value(model.trunk)
        raise UserError(f"model.trunk is {trunk}, which cannot be built: {said}.") from error
    size = embedder.image_size
    try:
        embedder.embed(torch.zeros(1, 3, size, size, dtype=torch.uint8))
    except (AssertionError, RuntimeError, MemoryError, ValueError) as error:
        raise UserError(
            f"{model.name} takes no images of model.image_size = {size}: {error}."
        ) from error


def save_embedder(folder: Path, embedder: Embedder, config: dict) -> None:
    """Write `model.safetensors` and `config.json` into an existing folder."""
    tensors = {name: tensor.contiguous() for name, tensor in embedder.state_dict().items()}
    # Not save_file: it hides from the caller that a disk is full.
    (folder / WEIGHTS).write_bytes(save(tensors))
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def load_config(folder: Path) -> dict:
    """What a saved model says of itself.

    Raises:
        UserError: the folder does not hold a saved model.
    """
    if not (folder / WEIGHTS).exists() or not (folder / CONFIG).exists():
        raise UserError(f"{folder} holds no model: {WEIGHTS} and {CONFIG} are expected there.")
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        whole = all(key in config for key in NEEDED) and _is_sound(config)
    except (ValueError, TypeError):
        whole = False
    if not whole:
        raise UserError(f"{folder / CONFIG} is damaged, or describes no model.")
    return config


def _is_sound(config: dict) -> bool:
    """Whether sizes and channels are numbers; what a `_target_` may be, `build` says."""
    sizes = [config["dim"], config["image_size"]]
    channels = [config[key] for key in ("mean", "std") if isinstance(config[key], list)]
    return (
        "_target_" in config["trunk"]
        and all(type(size) is int and size > 0 for size in sizes)
        and all(isinstance(each, (int, float)) for three in channels for each in three)
    )


def model_digest(folder: Path) -> str:
    """SHA-256 over the weights and the configuration: which model this is.

    Raises:
        UserError: the folder does not hold a saved model.
    """
    load_config(folder)
    digest = hashlib.sha256()
    for file in (WEIGHTS, CONFIG):
        digest.update((folder / file).read_bytes())
    return digest.hexdigest()


def load_embedder(folder: Path) -> Embedder:
    """A saved model, in evaluation mode. Nothing in the folder is executed or unpickled.

    Raises:
        UserError: the folder does not hold a saved model.
    """
    config = load_config(folder)
    if "pretrained" in config["trunk"]:
        config["trunk"]["pretrained"] = False  # the saved weights replace them
    embedder = build_embedder(config)
    try:
        embedder.load_state_dict(load_file(folder / WEIGHTS))
    except (SafetensorError, RuntimeError) as error:  # of torch: other tensors than the model's
        said = " ".join(str(error).split())[:200]
        raise UserError(f"The model in {folder} is damaged ({said}).") from error
    return embedder.eval()
