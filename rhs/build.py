"""From a configuration to objects."""

import importlib
from typing import Any

from rhs.errors import UserError

TRUSTED = ("rhs.",)


def build(config: Any, **extra: Any) -> Any:
    """Call what `_target_` names with the other keys as arguments, depth first.

    This is Hydra's `_target_` convention, without Hydra, so that the core runs with torch alone,
    and limited to this package, so that a configuration that came with a model cannot run anything
    else.

    Args:
        config: nested dicts and lists; anything without `_target_` is returned as it is.
        extra: further arguments of the outermost call.

    Raises:
        UserError: a target outside the package or that does not exist, or arguments it refuses.
    """
    if isinstance(config, (list, tuple)):
        return [build(item) for item in config]
    if not isinstance(config, dict):
        return config
    arguments = {key: build(value) for key, value in config.items() if key != "_target_"}
    if "_target_" not in config:
        return arguments
    target = _locate(config["_target_"])
    try:
        return target(**arguments, **extra)
    except TypeError as error:
        raise UserError(f"{config['_target_']} cannot be built from its settings: {error}.") from error


def _locate(path: str) -> Any:
    if not path.startswith(TRUSTED):
        raise UserError(f"_target_ {path!r} is outside of this project; it must start with 'rhs.'.")
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UserError(f"_target_ {path!r} does not exist: {error}.") from error
