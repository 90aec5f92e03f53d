"""What a setting may be: each rule takes its name and value, and raises a sentence or nothing."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from rhs.config.renames import KEYS
from rhs.distributed.ray_environment import is_utf_8
from rhs.errors import UserError, check_number, format_value

Rule = Callable[[str, Any], None]
MOST_JITTER = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.5}
BOOLEANS = " (YAML reads yes, no, on and off as true or false: write such a text in quotes)"


def refuse(name: str, value: object, wanted: str) -> None:
    """Raises UserError: `value` stands where `wanted` must."""
    hint = BOOLEANS if isinstance(value, bool) and "true" not in wanted else ""
    raise UserError(f"{name} is {format_value(value)}; it must be {wanted}{hint}.")


def unknown(name: str, key: object, accepted: Iterable[str]) -> str:
    """The sentence for a key of group `name` that is not known, with the nearest that is."""
    if new := KEYS.get(f"{name}.{key}"):
        return f"{name}.{key} is called {new} now: rename it."
    known = list(map(str, accepted))
    near = difflib.get_close_matches(str(key), known, n=1)
    hint = f"; the nearest known is {name}.{near[0]}" if near else ""
    return f"{name}.{key} is unknown; accepted: {', '.join(known) or 'nothing'}{hint}."


def whole(least: float = -math.inf, most: float = math.inf) -> Rule:
    """A whole number within bounds."""

    def rule(name: str, value: Any) -> None:
        check_number(name, value, least=least, most=most, whole=True)

    return rule


def real(least: float = -math.inf, most: float = math.inf, above: float = -math.inf) -> Rule:
    """A finite number within bounds."""

    def rule(name: str, value: Any) -> None:
        check_number(name, value, least=least, most=most, above=above)

    return rule


def flag(name: str, value: Any) -> None:
    """True or false."""
    if not isinstance(value, bool):
        refuse(name, value, "true or false")


def text(name: str, value: Any) -> None:
    """Text that is not empty."""
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        refuse(name, value, "a text")


def path(name: str, value: Any) -> None:
    """A path; a folder 2024 comes from the command line as a number."""
    number_like = isinstance(value, int) and not isinstance(value, bool)
    fits = isinstance(value, str) and value.strip() and "\0" not in value
    if not (fits or number_like):
        refuse(name, value, "the path of a file or folder")
    if not is_utf_8(str(value)):
        raise UserError(f"{name} is {value!r}, which is not UTF-8: give the file another name.")


def label(name: str, value: Any) -> None:
    """A name that becomes part of a folder's."""
    if not isinstance(value, str) or not re.fullmatch(r"[\w-][\w.+-]{0,99}", value):
        refuse(
            name,
            value,
            "text of letters, digits, '_', '-' and '.', 100 at most, and not begin with '.'",
        )


def one_of(*choices: str) -> Rule:
    """One of some texts."""

    def rule(name: str, value: Any) -> None:
        if not isinstance(value, str) or value not in choices:
            near = difflib.get_close_matches(str(value), choices, n=1)
            hint = f" (nearest: {near[0]})" if near else ""
            raise UserError(
                f"{name} is {format_value(value)}; accepted: {', '.join(choices)}{hint}."
            )

    return rule


def maybe(rule: Rule) -> Rule:
    """Null, or what `rule` takes."""

    def or_null(name: str, value: Any) -> None:
        if value is not None:
            rule(name, value)

    return or_null


def several(rule: Rule, example: str, count: int | None = None, least: int = 1) -> Rule:
    """A list, of exactly `count` or at least `least`, of what `rule` takes."""

    def each(name: str, value: Any) -> None:
        right = isinstance(value, (list, tuple)) and len(value) >= least
        if not right or (count is not None and len(value) != count):
            refuse(name, value, f"a list such as {example}")
        for item in value:
            rule(name, item)

    return each


def mapping(rule: Rule, example: str) -> Rule:
    """Names with what `rule` takes."""

    def each(name: str, value: Any) -> None:
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            raise UserError(f"{name} is {format_value(value)}; accepted: {example} and the like.")
        for key, item in value.items():
            rule(f"{name}.{key}", item)

    return each


def expression(name: str, value: Any) -> None:
    """A regular expression."""
    if not isinstance(value, str) or not value:
        refuse(name, value, "a regular expression or null")
    try:
        re.compile(value)
    except (re.error, RecursionError, OverflowError) as error:
        raise UserError(
            f"{name} is {format_value(value)}, which is not a regular expression: {error}."
        ) from None


def classes(name: str, value: Any) -> None:
    """Null, names of classes, or a text: of a file or a regular expression."""
    named = isinstance(value, (list, tuple)) and len(value) > 0
    if value is not None and not named and not (isinstance(value, str) and value.strip()):
        refuse(name, value, "null, a list of names, a text file or a regular expression")
    for item in value if named else ():
        if isinstance(item, bool) or not isinstance(item, (str, int)):
            refuse(name, item, "a list of class names (text: a number such as 1.50 in quotes)")


def storage(name: str, value: Any) -> None:
    """A folder or the URL of an object store."""
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise UserError(
            f"{name} is {format_value(value)}; it must be a folder, or s3://bucket/prefix."
        )


def workers(name: str, value: Any) -> None:
    """A number of workers, or the least and the most of them."""
    from rhs.distributed.ray_cluster import workers_of

    workers_of(value)


def validation(name: str, value: Any) -> None:
    """A fraction below 1."""
    real_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (real_number and 0 <= value < 1):
        raise UserError(f"{name} is {format_value(value)}; accepted: 0 (none) to below 1.")


def bounds(most: float) -> Rule:
    """The least and the greatest value that is drawn."""

    def rule(name: str, value: Any) -> None:
        several(real(above=0, most=most), "[0.5, 1.0]", count=2)(name, value)
        if value[0] > value[1]:
            refuse(name, value, "a least and a greatest value, in this order")

    return rule


def jitter(name: str, value: Any) -> None:
    """Amounts by the property of colors."""
    if not isinstance(value, Mapping):
        raise UserError(
            f"{name} is {format_value(value)}; accepted: null, or amounts of "
            f"{', '.join(MOST_JITTER)}."
        )
    for each, amount in value.items():
        if each not in MOST_JITTER:
            raise UserError(f"{name} has {each!r}; accepted: {', '.join(MOST_JITTER)}.")
        check_number(f"{name}.{each}", amount, least=0, most=MOST_JITTER[each])
