"""From a configuration to objects."""

import functools
import importlib
import inspect
from typing import Any

from rhs.errors import UserError

TRUSTED = "rhs."


def build(config: Any, within: str = TRUSTED, also: tuple[str, ...] = (), **extra: Any) -> Any:
    """Call what `_target_` names with the other keys as arguments, depth first.

    This is Hydra's `_target_` convention, and its `_partial_: true` for what is to be called later
    (which here holds for the targets inside too, unless they say `_partial_: false`), without
    Hydra, so that the core runs with torch alone; and limited to this package, so that a
    configuration that came with a model cannot run anything else.

    Args:
        config: nested dicts and lists; anything without `_target_` is returned as it is.
        within: what every target's path starts with.
        also: other starts that are allowed.
        extra: further arguments of the outermost call.

    Raises:
        UserError: a target outside of `within` or that does not exist, or arguments it refuses.
    """
    return _build(config, within, also, extra)


def _build(
    config: Any, within: str, also: tuple[str, ...], extra: dict, later: bool = False
) -> Any:
    if isinstance(config, (list, tuple)):
        return [_build(item, within, also, {}, later) for item in config]
    if not isinstance(config, dict):
        return config
    later = config.get("_partial_", later)
    arguments = {
        key: _build(value, within, also, {}, later)
        for key, value in config.items()
        if key not in ("_target_", "_partial_")
    }
    if "_target_" not in config:
        return arguments
    target = locate(config["_target_"], within, also)
    try:
        bind = inspect.signature(target).bind
        (inspect.signature(target).bind_partial if later else bind)(**arguments, **extra)
    except TypeError as error:
        raise UserError(f"{config['_target_']} does not take these settings: {error}.") from error
    if later:
        return functools.partial(target, **arguments, **extra)
    return target(**arguments, **extra)


def locate(path: Any, within: str, also: tuple[str, ...]) -> Any:
    """What a `_target_` names. Raises UserError where it is out of bounds or does not exist."""
    allowed = (within, *also)
    if not isinstance(path, str) or not path.startswith(allowed):
        raise UserError(
            f"_target_ {path!r} is out of bounds; it must start with "
            f"{' or '.join(map(repr, allowed))}."
        )
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UserError(f"_target_ {path!r} does not exist: {error}.") from error
    # Modules of this package import others' functions, which are not this package's to offer.
    if not getattr(found, "__module__", "").startswith(allowed):
        raise UserError(f"_target_ {path!r} is out of bounds: it is only imported there.")
    return found
