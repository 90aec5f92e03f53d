"""Checkpoints: safetensors and JSON, whole or not at all, in a folder or an object store.

A checkpoint of step 123 is two objects: `000000123.<digest>.safetensors`, and then
`000000123.json`, which names the first and says how long it is and what its checksum is. It exists
once its JSON does.
"""

import errno
import hashlib
import json
import re
from collections.abc import Callable, Collection

import torch
from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes

from rhs.storage.store import Store
from rhs.training.optimization import Optimizers


def save(store: Store, step: int, tensors: dict[str, torch.Tensor], state: dict) -> None:
    """Write checkpoint `step`, in place of an older one of that step.

    Args:
        tensors: everything that is a tensor, by name; as `copied` gives them.
        state: everything else; what JSON can hold.

    Raises:
        OSError: the disk is full, or the store away; older checkpoints stay.
    """
    rest = json.dumps(state)
    data = to_bytes(tensors)
    digest = hashlib.sha256(data).hexdigest()
    name = f"{step:09d}.{digest[:8]}.safetensors"
    store.write(name, data)
    whole = {"tensors": name, "size": len(data), "sha256": digest}
    store.write(_state_of(step), json.dumps(whole)[:-1].encode() + f', "state": {rest}}}'.encode())


def prune(store: Store, step: int, keep: int, best: Collection[int | None] = ()) -> None:
    """Delete all but checkpoint `step`, just written, the `keep` - 1 before it and those of `best`.

    Those of later steps go too: the run has come to `step` without them, as they were damaged. So
    does what is no checkpoint.
    """
    there = steps(store)
    kept = {*[s for s in there if s <= step][-keep:], *best}
    for number in there:
        if number not in kept:
            store.delete(_state_of(number))  # first: without it the rest is no checkpoint
    used = {_tensors_of(store, number) for number in there if number in kept}
    for name in store.names():
        if re.fullmatch(r"\d{9}\.\w+\.safetensors", name) and name not in used:
            store.delete(name)


def _tensors_of(store: Store, step: int) -> str | None:
    """The object that holds a checkpoint's tensors; a damaged checkpoint is deleted."""
    try:
        return json.loads(store.read(_state_of(step)))["tensors"]
    except (ValueError, KeyError, TypeError):
        store.delete(_state_of(step))
        return None


def load_latest(
    store: Store, say: Callable[[str], None] = print
) -> tuple[dict[str, torch.Tensor], dict] | None:
    """The newest checkpoint that reads back, or None; says so when it skips one.

    Raises:
        OSError: the store is away, which says nothing about its checkpoints.
    """
    there = steps(store)
    for step in reversed(there):
        try:
            return load(store, step)
        except (FileNotFoundError, ValueError, KeyError, TypeError, SafetensorError) as error:
            why: Exception = error
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            why = error
        say(f"checkpoint {step} in {store.location} cannot be read ({why}): trying the one before")
    if there:
        say("none of this run's checkpoints can be read: starting from the beginning")
    return None


def completed_epochs(store: Store) -> int:
    """Whole epochs that the newest checkpoint says are done; 0 without one that says so."""
    try:
        newest = json.loads(store.read(_state_of(steps(store)[-1])))
        return int(newest["state"]["epochs_done"])
    except (IndexError, FileNotFoundError, ValueError, KeyError, TypeError):
        return 0


def load(store: Store, step: int) -> tuple[dict[str, torch.Tensor], dict]:
    """Checkpoint `step`: its tensors and the rest.

    Raises:
        OSError, ValueError, KeyError, SafetensorError: it is not there, or not whole.
    """
    whole = json.loads(store.read(_state_of(step)))
    data = store.read(whole["tensors"])
    if len(data) != whole["size"]:
        raise ValueError(f"it has {len(data):,} bytes of {whole['size']:,}")
    if hashlib.sha256(data).hexdigest() != whole["sha256"]:
        raise ValueError("its checksum is another")
    return from_bytes(data), whole["state"]


def steps(store: Store) -> list[int]:
    """The steps that have a checkpoint, in order."""
    return [int(name[:9]) for name in store.names() if re.fullmatch(r"\d{9}\.json", name)]


def cpu_copies(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Copies in this machine's memory, each of its own: safetensors refuses tensors that share
    memory or are not contiguous, and training goes on changing the originals."""
    return {
        k: v.detach().cpu().clone(memory_format=torch.contiguous_format) for k, v in tensors.items()
    }


def state_tensors(
    model: torch.nn.Module, objective: torch.nn.Module, optimizer: Optimizers
) -> dict[str, torch.Tensor]:
    """All tensors that training changes, under names that say whose they are."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"objective.{name}": value for name, value in objective.state_dict().items()}
    for number, entries in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{key}": value for key, value in entries.items()}
    return tensors


def load_state_tensors(
    tensors: dict[str, torch.Tensor],
    model: torch.nn.Module,
    objective: torch.nn.Module,
    optimizer: Optimizers,
) -> None:
    """The inverse of `pack`, in place. The optimizer's settings stay those it was built with."""
    model.load_state_dict(with_prefix("model.", tensors))
    objective.load_state_dict(with_prefix("objective.", tensors))
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in with_prefix("optimizer.", tensors).items():
        number, key = name.split(".", 1)
        state.setdefault(int(number), {})[key] = value
    optimizer.load_state_dict(
        {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
    )


def with_prefix(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors whose names start with `prefix`, without it."""
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def _state_of(step: int) -> str:
    return f"{step:09d}.json"
