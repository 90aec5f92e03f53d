"""Settings, damaged in every way that an editor can."""

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from rhs.errors import UserError

DELETED = object()
RENAMED = object()
VALUES: list[Any] = [
    DELETED,
    RENAMED,
    None,
    "text",
    "",
    "a\0b",
    "../up",
    -1,
    0,
    1,
    1.5,
    math.nan,
    math.inf,
    True,
    [],
    {},
    10**12,
    10**400,
    [[1, [2]]],
    {"text": [None]},
    ["text", None],
    [0.5] * 4,
]


def paths(tree: Any, above: tuple = ()) -> Iterator[tuple]:
    """Of every key and every item of a list."""
    entries = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in entries:
        yield (*above, key)
        if isinstance(value, (dict, list)):
            yield from paths(value, (*above, key))


def damaged(params: dict, path: tuple, value: Any) -> dict:
    params = copy.deepcopy(params)
    group = params
    for key in path[:-1]:
        group = group[key]
    if value in (DELETED, RENAMED) and isinstance(group, dict):
        held = group.pop(path[-1])
        if value is RENAMED:
            group[f"{path[-1]}x"] = held
    else:
        group[path[-1]] = None if value in (DELETED, RENAMED) else copy.deepcopy(value)
    return params


def held(params: Any, path: tuple) -> Any:
    for key in path:
        there = key in params if isinstance(params, dict) else isinstance(key, int)
        if not there or not isinstance(params, (dict, list)) or (key == len(params)):
            return DELETED
        params = params[key]
    return params


def damages(settings: dict) -> Iterator[tuple[str, dict]]:
    """(what was done, the settings so damaged), one key and one value at a time."""
    for path in paths(settings):
        for value in VALUES:
            yield f"{path} = {value!r}", damaged(settings, path, value)


def sentence(what: str, look: Callable[[dict], Any], settings: dict) -> None:
    """Fails unless `look` takes the settings or refuses them in a short sentence."""
    try:
        look(settings)
    except UserError as error:
        said = str(error)
        assert "\n" not in said, (what, said)
        assert len(said) < 1000, (what, said)
    except Exception as error:  # names what did it
        pytest.fail(f"{what}: {type(error).__name__}: {error}")
