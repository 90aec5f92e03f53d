"""Checkpoints: safetensors and JSON, whole or not at all."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes

from rhs.atomic import whole_folder
from rhs.training.schedule import Optimizers

TENSORS, STATE = "tensors.safetensors", "state.json"


def save(folder: Path, step: int, tensors: dict[str, torch.Tensor], state: dict) -> Path:
    """Write checkpoint `step` into `folder` atomically and delete all but the last two.

    Args:
        tensors: everything that is a tensor, by name.
        state: everything else; what JSON can hold.
    """
    final = folder / f"{step:09d}"
    with whole_folder(final) as partial:
        # A copy each: safetensors refuses tensors that share memory or are not contiguous.
        copies = {k: v.detach().cpu().clone().contiguous() for k, v in tensors.items()}
        # Not save_file: it hides from the caller that a disk is full.
        (partial / TENSORS).write_bytes(to_bytes(copies))
        (partial / STATE).write_text(json.dumps(state))
    for old in _steps(folder)[:-2]:
        shutil.rmtree(old)
    return final


def load_latest(
    folder: Path, say: Callable[[str], None] = print
) -> tuple[dict[str, torch.Tensor], dict] | None:
    """The newest checkpoint that reads back, or None; says so when it skips one."""
    for path in reversed(_steps(folder)):
        try:
            return load(folder, int(path.name))
        except (OSError, ValueError, SafetensorError) as error:  # noqa: PERF203
            say(f"checkpoint {path} cannot be read ({error}): trying the one before")
    return None


def load(folder: Path, step: int) -> tuple[dict[str, torch.Tensor], dict]:
    """Checkpoint `step`: its tensors and the rest.

    Raises:
        OSError, ValueError, SafetensorError: it is not there, or not whole.
    """
    path = folder / f"{step:09d}"
    return load_file(path / TENSORS), json.loads((path / STATE).read_text())


def pack(
    model: torch.nn.Module, objective: torch.nn.Module, optimizer: Optimizers
) -> dict[str, torch.Tensor]:
    """All tensors that training changes, under names that say whose they are."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"objective.{name}": value for name, value in objective.state_dict().items()}
    for number, entries in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{key}": value for key, value in entries.items()}
    return tensors


def unpack(
    tensors: dict[str, torch.Tensor],
    model: torch.nn.Module,
    objective: torch.nn.Module,
    optimizer: Optimizers,
) -> None:
    """The inverse of `pack`, in place. The optimizer's settings stay those it was built with."""
    model.load_state_dict(under("model.", tensors))
    objective.load_state_dict(under("objective.", tensors))
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in under("optimizer.", tensors).items():
        number, key = name.split(".", 1)
        state.setdefault(int(number), {})[key] = value
    optimizer.load_state_dict(
        {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
    )


def under(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors whose names start with `prefix`, without it."""
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def _steps(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("[0-9]*") if p.is_dir()) if folder.exists() else []
