"""Places and names of this machine that Ray cannot do with as they are: a local cluster starts
wherever the project, the temporary folder and the home lie, and whatever they are called."""

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rhs.errors import UserError

# Ray's sockets lie in <folder>/session_<date>_<time>_<pid>/sockets, and Linux takes 107 bytes.
SOCKET = 107 - len("/session_2026-11-30_22-24-56_123456_4194304/sockets/plasma_store")
ELSEWHERE = ("/tmp", "/var/tmp", "/dev/shm")
TRIED = b"\0" * 2**16  # what must find room in a temporary folder


def temporary_folder() -> str:
    """Where Ray keeps its session: in RAY_TMPDIR, TMPDIR or /tmp, as it would itself; where TMPDIR
    does not do, in a shorter folder that does, which is said.

    Raises:
        UserError: RAY_TMPDIR does not do, or nothing does.
    """
    named = next((name for name in ("RAY_TMPDIR", "TMPDIR") if os.environ.get(name)), None)
    asked = os.path.abspath(os.environ[named]) if named else ELSEWHERE[0]
    folder = os.path.join(asked, "ray")
    if (why := _why_not(folder)) is None:
        return folder
    wanted = f"Ray needs a folder of at most {SOCKET - len('/ray')} bytes that can be written"
    said = f"{named or 'the temporary folder'} is {asked!r}, which {why}"
    if named != "RAY_TMPDIR":
        for place in ELSEWHERE:
            for name in ("ray", f"ray-{os.getuid()}"):  # the former may be another user's
                if _why_not(other := os.path.join(place, name)) is None:
                    if named:
                        print(f"note: {said}: Ray uses {other}", file=sys.stderr, flush=True)
                    return other
    raise UserError(f"{said}: {wanted}; RAY_TMPDIR may name one.")


def _why_not(folder: str) -> str | None:
    """Why Ray could not keep its session in a folder, in a few words; None: it could."""
    parent = folder if os.path.isdir(folder) else os.path.dirname(folder)
    if not os.path.isdir(parent):
        return "is no folder"
    if not is_utf_8(folder):
        return "is not UTF-8"
    if len(os.fsencode(folder)) > SOCKET:
        return f"is too long for sockets in it ({len(os.fsencode(os.path.dirname(folder)))} bytes)"
    try:
        with tempfile.TemporaryFile(dir=parent) as file:
            file.write(TRIED)
    except OSError as error:
        return f"cannot be written ({error.strerror})"
    return None


def is_utf_8(path: str) -> bool:
    """Whether a path can be written down: Python keeps other bytes as lone surrogates."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_project() -> None:
    """Raises UserError where the present folder's path cannot be written down."""
    if not is_utf_8(here := os.getcwd()):
        raise UserError(f"The project is in {here!r}, which is not UTF-8: give it another name.")


def give_token() -> None:
    """A token for the local cluster in the environment of its processes, unless there is one:
    Ray would write it to the home, which may be read-only, or not there."""
    from ray._private.authentication.authentication_token_generator import (
        generate_new_authentication_token,
    )
    from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]

    loader = AuthenticationTokenLoader.instance()
    if os.environ.get("RAY_AUTH_MODE", "token").lower() != "token":
        return
    if not loader.has_token(ignore_auth_mode=True):
        os.environ["RAY_AUTH_TOKEN"] = generate_new_authentication_token()
        loader.reset_cache()


def find_home() -> None:
    """Where the home is not known (a container's user without an entry in passwd), it is "/", as
    it is for Docker: libraries ask for it as they are imported."""
    if not Path(os.path.expanduser("~")).is_absolute():
        os.environ["HOME"] = os.sep


def executable() -> dict[str, str]:
    """What Ray's `runtime_env` needs to know where Python's path is more than one word of a shell's
    line, which Ray puts it into."""
    word = shlex.quote(sys.executable)
    return {} if word == sys.executable else {"py_executable": word}


@contextmanager
def commands_for_ray(*paths: str) -> Iterator[None]:
    """Meanwhile, `subprocess` joins a command to a line as the raylet takes it apart, like a shell.

    Ray joins it as Windows does, which is not the same for a path with a quotation mark or a
    backslash. Nothing is changed where every path is a plain word.
    """
    if all(shlex.quote(path) == path for path in (sys.executable, __file__, *paths)):
        yield
        return
    before = subprocess.list2cmdline
    subprocess.list2cmdline = shlex.join  # type: ignore[assignment]
    try:
        yield
    finally:
        subprocess.list2cmdline = before
