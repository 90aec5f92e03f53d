"""Texts in the grammar of Hydra's overrides, and the paths that people write without its quotes.

Outside quotation marks, Hydra's grammar has no `(`, `#`, `=`, `,`, `~` or letter beyond ASCII, and
reads `[1]` and `1e3` as something else than a name. A path is one text, whatever is in it.
"""

import re
import shlex
from typing import Any

from rhs.config.redact import without_secrets
from rhs.errors import UserError

# Parameters that are a path, an address or nothing.
PATHS = (
    "dataset.source",
    "dataset.fetch.root",
    "fetch.folder",
    "fetch.mirror",
    "cluster.storage",
    "cluster.cache_folder",
)
FORM = re.compile(r"~|\+{0,2}\w[\w.$/@:-]*=")  # an assignment, or the removal of a key
ASSIGNMENT = re.compile(r"(\+{0,2})([^=\s]+)=(.*)", re.DOTALL)
WORD = re.compile(r"(?!(?:null|true|false|nan|inf)$)[a-z_][a-z0-9_]*", re.IGNORECASE | re.ASCII)


def quote(text: str, mark: str = "'") -> str:
    """A text as Hydra reads it back, in these quotation marks."""
    from hydra.core.override_parser.types import Quote, QuotedString

    return QuotedString(text, Quote.single if mark == "'" else Quote.double).with_quotes()


def as_word(text: str) -> str:
    """A text as Hydra reads it back, in quotation marks where it needs them."""
    return text if WORD.fullmatch(text) else quote(text)


def readable(override: str) -> str:
    """The override, its value in quotation marks where it is a path that Hydra would not read, or
    would read as something else than a text. What is in quotation marks stays as it is."""
    found = ASSIGNMENT.fullmatch(override)
    if not found or found[2] not in PATHS or not found[3].strip():
        return override
    value = parse_override(override)
    if value is not None and (value[0] is None or isinstance(value[0], str)):
        return override
    return f"{found[1]}{found[2]}={quote(found[3])}"


def parse_override(override: str) -> tuple[Any] | None:
    """The value of an override; None where Hydra cannot read it, or reads several."""
    read = _parse(override)
    return None if read is None or read.is_sweep_override() else (read.value(),)


def is_sweep(override: str) -> bool:
    """Whether Hydra reads several values, each for an experiment of its own."""
    read = _parse(override)
    return read is not None and read.is_sweep_override()


def _parse(override: str) -> Any:
    """What Hydra reads; None where it cannot."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return OverridesParser.create().parse_override(override)
    except HydraException:
        return None


def check_override(override: str) -> None:
    """Raises UserError, with the form that is right, for a word that is no single assignment to
    Hydra."""
    shown = without_secrets(override)
    if not FORM.match(override):
        raise UserError(
            f"{shown!r} is not of the form KEY=VALUE, such as train.epochs=20; the files of conf/ "
            "have the keys."
        )
    if how := how_to_quote(override):
        raise UserError(
            f"{shown} cannot be read: a value with such characters is put in quotation marks, for "
            f"the shell: {without_secrets(how)}."
        )


def how_to_quote(override: str) -> str | None:
    """The word of a shell's line that gives an unreadable override's value as a text; None: it is
    not the value that cannot be read."""
    found = ASSIGNMENT.fullmatch(override)
    if not found or parse_override(override) is not None:
        return None
    better = f"{found[1]}{found[2]}={quote(found[3], chr(34))}"
    return shlex.quote(better) if parse_override(better) is not None else None
