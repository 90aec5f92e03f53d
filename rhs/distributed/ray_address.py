"""Which Ray cluster is meant: its address, from `cluster.address` or RAY_ADDRESS, tried out first.

Ray itself would warn for ten minutes of a cluster that is not there, in C, where no signal reaches
it, and end the process.
"""

import os
import re
import socket

from rhs.errors import UserError

PATIENCE = 10.0  # seconds for a cluster to answer
LOCAL, AUTO = "local", "auto"
ACCEPTED = (
    "HOST:PORT of the head's GCS (its port is 6379, unless it was started with another), auto for "
    "one that runs on this machine, or local (as if nothing were given) for one of this process "
    "alone"
)
HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])  # and no settings
AUTH_MODES = ("token", "disabled")
TRIES = "RAY_gcs_server_port_wait_time_s"  # as many tries as seconds, which Ray makes to join
LOCKED = (
    "it lets nobody in who has not its RAY_AUTH_MODE and RAY_AUTH_TOKEN, or it is another of Ray's "
    "ports than the GCS's"
)
SETTINGS = 4  # the kind of the first frame of whoever speaks HTTP/2, and so gRPC


def address_of(address: object) -> tuple[str, str] | None:
    """The address of a running cluster and the name of what gives it; None: one of this process.

    Args:
        address: `cluster.address`.

    Raises:
        UserError: it is no address that a driver can use.
    """
    if address is not None and not isinstance(address, str):
        raise UserError(f"cluster.address is {address!r}; accepted: null, {ACCEPTED}.")
    for name, text in (
        ("cluster.address", address or ""),
        ("RAY_ADDRESS", os.environ.get("RAY_ADDRESS", "")),
    ):
        text = text.strip()
        if text == LOCAL:
            return None
        if text and text != AUTO:
            _check(name, text)
            return text, name
        # As Ray has it: `auto` is the variable's, where it has one.
        if text == AUTO and (name == "RAY_ADDRESS" or _is_unset("RAY_ADDRESS")):
            return AUTO, name
    return None


def _is_unset(name: str) -> bool:
    return os.environ.get(name, "").strip() in ("", AUTO)


def _check(name: str, text: str) -> None:
    """Raises UserError unless it is HOST:PORT."""
    scheme, there, rest = text.partition("://")
    host, _, port = text.rpartition(":")
    if scheme.lower() in ("http", "https") and there:
        host = re.split(r"[/:]", rest)[0] or "HEAD"
        raise UserError(
            f"{name} is {text}, an address for `ray job submit`, which a command that runs here "
            f"cannot join: submit the command (ray job submit --working-dir . -- python -m …), "
            f"give {host}:6379, or run it on this machine alone with RAY_ADDRESS=local."
        )
    if scheme.lower() == "ray" and there:
        raise UserError(
            f"{name} is {text}, an address of Ray Client, which training cannot use: give "
            "HOST:PORT of the head's GCS (its port is 6379, unless it was started with another)."
        )
    named = re.fullmatch(r"[\w.-]+|\[[0-9A-Fa-f:.%]+\]|[0-9A-Fa-f:]+:[0-9A-Fa-f:]*", host)
    if there or not named or not re.fullmatch(r"\d{1,5}", port) or not 1024 <= int(port) < 65536:
        raise UserError(f"{name} is {text!r}; accepted: {ACCEPTED}.")


def resolve_address(address: str, name: str) -> str:
    """HOST:PORT; of `auto`, what runs on this machine or was started here last.

    Raises:
        UserError: there is none.
    """
    if address != AUTO:
        return address
    from ray._private.services import canonicalize_bootstrap_address_or_die

    os.environ.pop("RAY_ADDRESS", None)  # blank, or the same
    try:
        return canonicalize_bootstrap_address_or_die(AUTO)
    except (ConnectionError, ValueError) as error:
        why = "none runs on this machine" if isinstance(error, ConnectionError) else str(error)
        raise UserError(unreachable(address, name, why)) from error


def check_answer(address: str, name: str) -> None:
    """Raises UserError unless somebody who speaks gRPC, as a cluster does, answers at HOST:PORT."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), PATIENCE) as connection:
            if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
                return
            connection.sendall(HELLO)
            speaks = connection.recv(9)[3:4] == bytes([SETTINGS])
    except OSError as error:  # of names too
        raise UserError(unreachable(address, name, error.strerror or str(error))) from error
    if not speaks:
        raise UserError(unreachable(address, name, "something else than Ray answers there"))


def check_auth_mode() -> None:
    """Raises UserError if RAY_AUTH_MODE is none that Ray knows: it would end the process."""
    mode = os.environ.get("RAY_AUTH_MODE")
    if mode is not None and mode.lower() not in AUTH_MODES:
        raise UserError(f"RAY_AUTH_MODE is {mode!r}; accepted: {', '.join(AUTH_MODES)}.")


def unreachable(address: str, name: str, why: str) -> str:
    """The sentence on a cluster that cannot be joined."""
    why = " ".join(why.split()).rstrip(".")
    return (
        f"No Ray cluster can be joined at {address}, which is {name} ({why}): start it, correct "
        "the address, or run on this machine alone with RAY_ADDRESS=local and cluster.address=null."
    )
