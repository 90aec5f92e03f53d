"""Errors shown as one sentence, without a traceback."""

import errno
import math
import reprlib
import sys
import unicodedata

JOINERS = "\u200c\u200d"  # of letters and of emoji
LARGEST = sys.float_info.max
# What safetensors and SQLite say where Python would raise OSError(ENOSPC).
DISK_FULL = ("No space left on device", "database or disk is full")
SHORT = 80  # letters, about, of a value in a sentence


class UserError(ValueError):
    """A mistake in the input or the parameters.

    Its text is one sentence that names the offending value and what would be accepted. A pipeline
    stage prints that sentence, without a traceback, and exits with status 1.
    """


class Interrupted(KeyboardInterrupt):
    """The process was asked to end, by SIGTERM or Ctrl-C, and has done what it could before.

    No Exception: nothing that goes on after errors may go on after this. Libraries in C (Ray's)
    know what becomes of a KeyboardInterrupt.

    Args:
        signum: of the signal.
        said: what is known of the work so far, as a sentence.
    """

    def __init__(self, signum: int, said: str):
        super().__init__(said)
        self.signum = signum


def is_disk_full(error: BaseException) -> bool:
    """Whether it says that the disk, or a user's part of it, is full."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return any(text in str(error) for text in DISK_FULL)


def on_one_line(text: str) -> str:
    """The text with line ends, controls and what is no character escaped: names hold such."""
    return "".join(
        c.encode("unicode_escape").decode()
        if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") and c not in JOINERS
        else c
        for c in text
    )


def format_value(value: object) -> str:
    """A value as a sentence quotes it, long ones shortened."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = SHORT
    short.maxlist = short.maxdict = 8
    short.maxlevel = 3
    try:
        return short.repr(value)
    except ValueError:  # Python's, where an integer is long
        return "a number of thousands of digits"


def check_number(
    name: str,
    value: object,
    least: float = -math.inf,
    most: float = math.inf,
    above: float = -math.inf,
    whole: bool = False,
) -> None:
    """Raises UserError unless `value` is a finite number within these bounds."""
    right = (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and -LARGEST <= value <= LARGEST  # finite, and no integer that no float can be
        and least <= value <= most
        and value > above
        and (not whole or isinstance(value, int))
    )
    if right:
        return
    bounds = [
        text
        for text, there in (
            (f"at least {_bound(least)}", least > -math.inf),
            (f"above {_bound(above)}", above > -math.inf),
            (f"at most {_bound(most)}", most < math.inf),
        )
        if there
    ]
    kind = "a whole number" if whole else "a number"
    wanted = " ".join([kind, " and ".join(bounds)]).strip()
    raise UserError(f"{name} is {format_value(value)}; it must be {wanted}.")


def _bound(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"
