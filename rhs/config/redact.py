"""Parameters and texts without the secrets that may be in them: others read what is recorded."""

import re
from typing import Any

HIDDEN = "***"
# A password may hold what no URL allows unescaped: `/`, `?`, a space. A colon and a port are none.
PORT = r"\d{1,5}(?:[\s/?#'\"),;:.>\]]|$)"
ODD_LOGIN = rf"[^/?#\s:@]+:(?!{PORT})[^@\n]*@(?:[^/?#\s@]*@)*"
URL = re.compile(rf"(\w[\w+.-]*://)([^/?#\s]*@|{ODD_LOGIN})?([^?#\s]*)([?#][^\s'\")>]*)?")
KEYS = "(?:api|access|private|secret)[_-]?key"
WORDS = (
    "password|passwd|passphrase|pwd|secret|token|credential|auth|authorization|sas|"
    f"connection[_-]?string|{KEYS}"
)
NAME = re.compile(rf"(?:^|[_.-])(?:{WORDS})(s?)$", re.IGNORECASE)


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
            `access_key` or the like, or in several of them, is hidden. A switch
            (`class_token: true`) and a number of them (`tokens: 8`) are not.
    """
    if (found := NAME.search(name)) and not isinstance(tree, bool | None):
        count = found[1] and isinstance(tree, (int, float))
        return tree if count else HIDDEN
    if isinstance(tree, dict):
        return {key: redacted(value, str(key)) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [redacted(value) for value in tree]
    return without_secrets(tree) if isinstance(tree, str) else tree
