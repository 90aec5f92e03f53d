"""Labels as people and programs write them: what means none, and what differs in writing alone."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable

from rhs.errors import UserError

SETTING = "dataset.fetch.empty"
# What pandas reads as missing, in any case.
MISSING = frozenset(
    {
        "#n/a",
        "#n/a n/a",
        "#na",
        "-1.#ind",
        "-1.#qnan",
        "-nan",
        "1.#ind",
        "1.#qnan",
        "<na>",
        "n/a",
        "na",
        "nan",
        "nat",
        "none",
        "null",
        "#null!",
        "(null)",
        "(blank)",
    }
)


def empty_words(setting: object) -> frozenset[str]:
    """The words that mean no label, in lower case: MISSING for null, or those of a list.

    Raises:
        UserError: it is neither.
    """
    if setting is None:
        return MISSING
    if isinstance(setting, (list, tuple)) and all(isinstance(word, str) for word in setting):
        return frozenset(word.strip().lower() for word in setting)
    raise UserError(
        f"{SETTING} is {setting!r}; accepted: null (NA, NaN, None, null and the like), or a list "
        "of the words that mean no label, [] for an empty cell alone."
    )


def alike(labels: Iterable[str], most: int = 3) -> str:
    """A sentence on labels that differ in writing alone, such as 1 and 01; "" if none do."""
    spellings: dict[str, list[str]] = defaultdict(list)
    for label in sorted(set(labels)):
        spellings[_plain(label)].append(label)
    groups = [group for group in spellings.values() if len(group) > 1]
    if not groups:
        return ""
    some = ", ".join(" and ".join(map(repr, group[:3])) for group in groups[:most])
    more = f" and {len(groups) - most} more" if len(groups) > most else ""
    return f"classes of their own, though their names differ in writing alone: {some}{more}"


def _plain(label: str) -> str:
    text = " ".join(re.split(r"[\s_-]+", unicodedata.normalize("NFKC", label).casefold().strip()))
    if re.fullmatch(r"[0-9]{1,15}(\.0*)?", text):
        return str(int(float(text)))
    return text
