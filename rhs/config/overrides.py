"""Overrides in Hydra's grammar: written from values, and read."""

from collections.abc import Mapping
from typing import Any

from rhs.config.quoting import as_word, readable
from rhs.errors import UserError


def overrides_of(values: Mapping[str, Any]) -> list[str]:
    """Values as Hydra's overrides."""
    return [f"{path}={as_text(value)}" for path, value in values.items()]


def as_text(value: Any) -> str:
    """A value in the grammar of Hydra's overrides."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{as_text(each)}" for key, each in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(as_text, value)) + "]"
    return as_word(value) if isinstance(value, str) else str(value)


def assigned(override: str) -> tuple[str, Any]:
    """The path and the value of an override. Raises UserError unless it is `path=value`."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import OverrideType
    from hydra.errors import HydraException

    try:
        parsed = OverridesParser.create().parse_override(readable(override))
    except HydraException as error:
        raise UserError(f"{override} cannot be read: {' '.join(str(error).split())}.") from None
    changes = parsed.type == OverrideType.CHANGE and parsed.package is None
    if not changes or parsed.is_sweep_override():
        raise UserError(f"{override} is not of the form path=value, which a search takes alone.")
    return parsed.key_or_group, parsed.value()
