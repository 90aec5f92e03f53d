"""Groups with a `_target_`: their keys and values, held against its signature."""

from __future__ import annotations

import difflib
import inspect
import re
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rhs.config.instantiate import locate
from rhs.config.renames import old_names
from rhs.config.value_checks import refuse, unknown
from rhs.errors import UserError, check_number, format_value

SPECIAL = ("_target_", "_partial_")
CONF = Path("conf")


def check_target(
    name: str,
    config: object,
    within: str,
    also: tuple[str, ...] = (),
    given: Sequence[str] = (),
) -> None:
    """Look at a group of settings that `rhs.config.instantiate.build` is to make an object of.

    Args:
        name: of the group, such as `method.loss`.
        within, also: what a target's path starts with.
        given: arguments that it gets from elsewhere.

    Raises:
        UserError: a target that does not exist, a key that it does not take, one that it needs, or
            a value of another type than it says; names the key.
    """
    if not isinstance(config, Mapping):
        raise UserError(f"{name} is {format_value(config)}; it must be a group with a _target_.")
    for _, sentence in old_names(name, config):
        raise UserError(sentence)
    if "_target_" not in config:
        raise UserError(f"{name} has no _target_; the files of conf/ show which there are.")
    target = _located(f"{name}._target_", config["_target_"], within, also)
    later = config.get("_partial_", False)
    if not isinstance(later, bool):
        refuse(f"{name}._partial_", later, "true or false")
    parameters = inspect.signature(target).parameters
    named = {k: p for k, p in parameters.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
    types_of = _types(target)
    for key, value in config.items():
        if key in SPECIAL:
            continue
        if key not in named or key in given:
            if any(p.kind == p.VAR_KEYWORD for p in parameters.values()) and key not in given:
                continue
            raise UserError(unknown(name, key, [each for each in named if each not in given]))
        part = types_of.get(key, object) is Any  # which stands for an object
        absent = value is None and named[key].default is None
        if (part and not absent) or (isinstance(value, Mapping) and "_target_" in value):
            check_target(f"{name}.{key}", value, within, also)
        else:
            _check_type(f"{name}.{key}", value, types_of.get(key, object))
    needed = [k for k, p in named.items() if p.default is p.empty and k not in (*config, *given)]
    if needed and not later:
        raise UserError(f"{name}.{needed[0]} is missing: {config['_target_']} needs it.")


def _located(name: str, target: object, within: str, also: tuple[str, ...]) -> Any:
    try:
        return locate(target, within, also)
    except UserError as error:
        near = difflib.get_close_matches(str(target), _targets(), n=1)
        hint = f" The nearest that conf/ names is {near[0]}." if near else ""
        raise UserError(f"{name}: {error}{hint}") from None


def _targets() -> list[str]:
    """Every target that a file of `conf/` names."""
    files = CONF.rglob("*.yaml")
    text = "\n".join(file.read_text(errors="replace") for file in files if file.is_file())
    return sorted(set(re.findall(r"_target_: ([\w.]+)", text)))


def _types(target: Any) -> dict[str, Any]:
    called = target.__init__ if inspect.isclass(target) else target
    try:
        return typing.get_type_hints(called)
    except (NameError, TypeError, AttributeError):
        return {}


def _check_type(name: str, value: Any, wanted: Any) -> None:
    """Raises UserError unless `value` is of an annotation's type; of others nothing is known."""
    union = isinstance(wanted, types.UnionType) or typing.get_origin(wanted) is typing.Union
    members = typing.get_args(wanted) if union else (wanted,)
    if value is None and type(None) in members:
        return
    plain = [each for each in members if each is not type(None)]
    if len(plain) != 1:
        return
    kind = plain[0]
    if kind in (int, float):
        check_number(name, value, whole=kind is int)
    elif kind is bool and not isinstance(value, bool):
        refuse(name, value, "true or false")
    elif kind is str and not isinstance(value, str):
        refuse(name, value, "a text")
    elif typing.get_origin(kind) in (list, Sequence):
        if not isinstance(value, (list, tuple)):
            refuse(name, value, "a list")
        for item in value:
            _check_type(name, item, typing.get_args(kind)[0])
