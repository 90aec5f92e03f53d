"""Parameters and texts without the secrets that may be in them: others read what is recorded."""

import re
from typing import Any

HIDDEN = "***"
URL = re.compile(r"(\w[\w+.-]*://)([^/?#\s]*@)?([^?#\s]*)([?#][^\s'\")>]*)?")
KEYS = "(?:api|access|private|secret)[_-]?key"
WORDS = f"password|passwd|passphrase|pwd|secret|token|credentials?|{KEYS}"
NAME = re.compile(rf"(?:^|[_.-])(?:{WORDS})$", re.IGNORECASE)


def without_secrets(text: str) -> str:
    """The text; in its URLs, `***` stands for a user with password and for what follows a `?`."""

    def clean(url: re.Match) -> str:
        scheme, login, rest, query = url.groups()
        return f"{scheme}{HIDDEN + '@' if login else ''}{rest}{query[0] + HIDDEN if query else ''}"

    return URL.sub(clean, text)


def redacted(tree: Any, name: str = "") -> Any:
    """A copy of nested parameters, fit to be shown.

    Args:
        name: of the parameter that `tree` is the value of; one that ends in `password`, `token`,
            `access_key` or the like is hidden, a switch (`class_token: true`) is not.
    """
    if NAME.search(name) and not isinstance(tree, bool | None):
        return HIDDEN
    if isinstance(tree, dict):
        return {key: redacted(value, str(key)) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [redacted(value) for value in tree]
    return without_secrets(tree) if isinstance(tree, str) else tree
