"""From a tree of parameters to `Params`: each is checked before a stage does anything.

What a `_target_` takes is said by its signature: see `rhs.config.target_checks`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

from rhs.config.redact import without_secrets
from rhs.config.renames import KEYS, old_names
from rhs.config.settings import Params, Target
from rhs.config.value_checks import Rule, text
from rhs.errors import UserError, format_value

Group = TypeVar("Group")
# What people call a parameter elsewhere.
MEANT = {
    "train.batch_size": "train.classes (a batch has train.classes x train.per_class images)",
    "train.learning_rate": "train.lr",
    "dataset.class_lists": "dataset.train_classes (a change of its file is noticed by itself)",
}


class BadSetting(UserError):
    """A parameter that cannot be; `key` is its path, such as `train.lr`."""

    def __init__(self, key: str, sentence: str):
        super().__init__(sentence)
        self.key = key


class Missing(BadSetting):
    """A parameter that is not there."""


def read_params(tree: Mapping[str, Any]) -> Params:
    """The parameters of a run, each checked.

    Raises:
        Missing, BadSetting: the first that is absent, unknown or of a wrong kind.
    """
    params = read_group(Params, "", tree)
    for key in ("experiment", "registered_model") if params.tracking.enabled else ():
        if getattr(params.tracking, key) is None:
            full = f"tracking.{key}"
            raise BadSetting(full, f"{full} is None; name one, or set tracking.enabled to false.")
    return params


def read_group(group: type[Group], name: str, tree: object) -> Group:
    """As `read_params`, of one group and its name, such as `IndexConfig` and `index`."""
    values = _mapping(name, tree)
    for key, sentence in old_names(name, values):
        raise BadSetting(key, sentence)
    entries = entries_of(group)
    if strange := [key for key in values if key not in entries]:
        full = f"{name}.{strange[0]}".lstrip(".")
        near = nearest(full)
        hint = f"; the nearest known is {near}" if near else ""
        raise BadSetting(full, f"{full} is unknown; accepted: {', '.join(entries)}{hint}.")
    read = {}
    for key, entry in entries.items():
        full = f"{name}.{key}".lstrip(".")
        if key not in values:
            raise Missing(full, f"{full} is missing.")
        read[key] = values[key]
        if isinstance(entry, type):
            read[key] = read_group(entry, full, values[key])
        elif isinstance(entry, Target):
            _check_target(full, values[key], entry)
        else:
            _check_value(full, values[key], entry)
    return group(**read)


def entries_of(group: Any) -> dict[str, Any]:
    """Of each field of a group's class its check or, where it is a group itself, its class."""
    types = {field.name: field.type for field in fields(group)}
    return {name: getattr(kind, "__metadata__", [kind])[0] for name, kind in types.items()}


def nearest(full: str) -> str | None:
    """The known path that is nearest to one that is not; None where none is near."""
    if full in MEANT or full in KEYS:
        return MEANT.get(full) or KEYS[full]
    above, _, key = full.rpartition(".")
    known = list(keys())
    same = [each for each in known if each.rpartition(".")[2] == key and each != full]
    here = {each.rpartition(".")[2]: each for each in known if each.rpartition(".")[0] == above}
    near = difflib.get_close_matches(key, here, n=1)
    others = [each for each in known if not full.startswith(f"{each}.")]
    far = difflib.get_close_matches(full, others, n=1, cutoff=0.75)
    return next(iter([*same, *(here[each] for each in near), *far]), None)


def keys(group: Any = Params, above: str = "") -> Iterator[str]:
    """The path of every parameter."""
    for key, entry in entries_of(group).items():
        yield f"{above}{key}"
        if is_dataclass(entry):
            yield from keys(entry, f"{above}{key}.")


def _check_target(name: str, group: object, entry: Target) -> None:
    group = _mapping(name, group)
    for key, rule in entry.also.items():
        if key not in group:
            raise Missing(f"{name}.{key}", f"{name}.{key} is missing.")
        _check_value(f"{name}.{key}", group[key], rule)
    target = f"{name}._target_"
    if "_target_" not in group:
        raise BadSetting(
            target, f"{name} has no _target_; the files of conf/ show which there are."
        )
    _check_value(target, group["_target_"], text)


def _check_value(name: str, value: object, rule: Rule) -> None:
    try:
        rule(name, value)
    except UserError as error:
        raise BadSetting(name, without_secrets(str(error))) from None


def _mapping(name: str, group: object) -> Mapping[str, Any]:
    if isinstance(group, Mapping):
        return group
    raise BadSetting(
        name, f"{name} is {format_value(group)}; it must be a group of settings, as in conf/."
    )
