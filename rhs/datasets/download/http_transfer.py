"""One file from one address into `<name>.part`, in as many attempts as it takes.

What has come stays when a connection breaks or the process is killed, and the next attempt asks the
server for the rest only. Two versions of a file are never joined: the server is asked for the rest
of *that* version (If-Range), and a file without a published digest is begun anew where the server
names no version.
"""

import random
import re
import time
from email.utils import parsedate_to_datetime
from typing import NamedTuple

import requests
import urllib3

from rhs.config.redact import without_secrets
from rhs.datasets.download.partial_file import (
    CHUNK,
    DownloadFailed,
    PartialFile,
    byte_bar,
    check_space,
    human_size,
    naming_errors,
)

CONNECT = 10.0  # seconds: a machine without internet should learn it soon
CONTENT_RANGE = re.compile(r"\s*bytes (?:(\d+)-\d+|\*)/(\d+|\*)\s*")
JITTER = random.Random()  # its own: waiting must not change what a seed draws


class _Again(Exception):
    """This attempt failed, another may not. `wait`: seconds that the server asked for."""

    def __init__(self, why: str, wait: float = 0.0, answered: bool = True):
        super().__init__(why)
        self.wait, self.answered = wait, answered


class Patience(NamedTuple):
    """How long an address is tried; times in seconds."""

    retries: int = 5  # attempts in a row that bring nothing new
    timeout: float = 30.0  # without a byte
    first_wait: float = 1.0  # doubled after every attempt
    longest_wait: float = 60.0  # also where the server asks for longer


class HTTPTransfer:
    """Brings the rest of the file at `url` into `part`.

    Args:
        size: of the file in bytes, if known: it tells whether the disk has room where the server
            does not say.
        checked: whether the bytes are compared with a digest afterwards. Only then are bytes of
            another address, or of a server that names no version, worth continuing.

    Raises:
        DownloadFailed: from `run`: the address does not have the file, or `patience` is at its end.
        UserError: from `run`: the disk has no room for it.
    """

    def __init__(
        self, url: str, part: PartialFile, patience: Patience, size: int | None, checked: bool
    ):
        self.url, self.part, self.patience = url, part, patience
        self.shown = without_secrets(url)
        self.size, self.checked = size, checked
        self.session = requests.Session()

    def run(self) -> None:
        """Raises DownloadFailed at the end of `patience`; what came stays in `part`."""
        part, patience = self.part, self.patience
        most, failed, answered = part.size, 0, False
        with self.session:
            while problem := self._attempt():
                answered = answered or problem.answered
                failed = 1 if part.size > most else failed + 1
                most = max(most, part.size)
                # Who never answered is hardly just busy: one more attempt, then the next address.
                if failed > (patience.retries if answered else min(patience.retries, 1)):
                    raise DownloadFailed(str(problem))
                wait = min(patience.first_wait * 2 ** (failed - 1), patience.longest_wait)
                wait = max(JITTER.uniform(wait / 2, wait), min(problem.wait, patience.longest_wait))
                where = without_secrets(self.url)
                print(f"{where}: {problem}; trying again in {wait:.1f} s", flush=True)
                time.sleep(wait)

    def _attempt(self) -> _Again | None:
        """None if the part is whole now, otherwise why not yet."""
        notes = self.part.notes()
        version = notes.get("validator") if notes.get("url") == self.shown else None
        have = self.part.size if version or self.checked else 0
        if have and have == notes.get("total"):
            return None  # killed between the last byte and the rename
        try:
            if have:
                asked = {"Range": f"bytes={have}-"} | ({"If-Range": version} if version else {})
                with self._open(asked) as response:
                    if _continues(response, have, version, notes.get("total")):
                        self._receive(response, have)
                        return None
                    if response.status_code == 200:
                        self._receive(response, 0)
                        return None
                    if response.status_code == 416 and self.checked and _total(response) == have:
                        return None  # all of it is here: a digest will tell
            with self._open({}) as response:
                if response.status_code != 200:
                    raise DownloadFailed(
                        f"answered {response.status_code} to a request for the whole file"
                    )
                self._receive(response, 0)
        except _Again as problem:
            return problem
        return None

    def _open(self, headers: dict[str, str]) -> requests.Response:
        """The answer, if it is 200, 206 or 416."""
        timeout = self.patience.timeout
        # Not compressed for the way: ranges count the file's own bytes.
        headers = {"Accept-Encoding": "identity", **headers}
        limits = (min(CONNECT, timeout), timeout)
        try:
            response = self.session.get(self.url, headers=headers, stream=True, timeout=limits)
        except requests.exceptions.SSLError as error:
            raise DownloadFailed(f"no secure connection ({_cause(error)})") from None
        except requests.exceptions.ReadTimeout:
            raise _Again(f"no answer in {timeout:g} s") from None
        except requests.exceptions.ConnectTimeout:
            raise _Again(f"no connection in {limits[0]:g} s", answered=False) from None
        except requests.exceptions.ConnectionError as error:
            if "Connection aborted" in str(error):  # after it was made
                raise _Again("connection cut") from None
            raise _Again(f"no connection ({_cause(error)})", answered=False) from None
        except requests.RequestException as error:  # an address or redirect that is none, a loop
            raise DownloadFailed(_cause(error)) from None
        try:
            _check_answer(response)
        except Exception:
            response.close()
            raise
        return response

    def _receive(self, response: requests.Response, start: int) -> None:
        """Write the body into the part from byte `start` on."""
        part, length, problem = self.part, response.raw.length_remaining, ""
        total = _total(response) or (start + length if length is not None else None)
        if not start:
            part.discard()
        check_space(part.path, (total or self.size or 0) - start)
        with naming_errors(part.path):
            if not start:
                part.note(self.shown, _validator(response), total)
            try:
                with (
                    part.path.open("ab" if start else "wb") as out,
                    byte_bar(part.name, total or self.size, start) as bar,
                ):
                    # Not decoded: some servers call a .tgz an encoding of a .tar.
                    while data := response.raw.read1(CHUNK, decode_content=False):
                        out.write(data)
                        bar.update(len(data))
            except urllib3.exceptions.ReadTimeoutError:
                problem = f"no byte for {self.patience.timeout:g} s"
            except urllib3.exceptions.HTTPError:
                problem = "connection cut"
        whole = not problem if total is None else part.size == total
        if not whole:
            of = f" of {human_size(total)}" if total else ""
            raise _Again(f"{problem or 'connection cut'} after {human_size(part.size)}{of}")


def _check_answer(response: requests.Response) -> None:
    """Raises DownloadFailed or _Again unless the server is ready to give the file."""
    status, kind = response.status_code, response.headers.get("Content-Type", "")
    why = f"answered {status} {response.reason}".strip()
    if status in (408, 429) or status >= 500:
        raise _Again(why, _seconds(response.headers.get("Retry-After", "")))
    if status not in (200, 206, 416):
        raise DownloadFailed(why)
    if kind.startswith("text/html") and not response.url.endswith((".html", ".htm")):
        raise DownloadFailed("answered with a web page, not the file")


def _continues(
    response: requests.Response, have: int, version: str | None, total: int | None
) -> bool:
    """Whether the body is what follows the first `have` bytes of the same version of the file."""
    found = CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    return (
        response.status_code == 206
        and found is not None
        and found[1] == str(have)
        and (total is None or _total(response) in (None, total))
        and (version is None or _validator(response) in (None, version))
    )


def _total(response: requests.Response) -> int | None:
    """The size of the whole file where Content-Range says it."""
    found = CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    return int(found[2]) if found and found[2] != "*" else None


def _validator(response: requests.Response) -> str | None:
    """What names this version of the file: a weak ETag promises too little for ranges."""
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified")


def _seconds(retry_after: str) -> float:
    """A Retry-After header, which is seconds or a date, as seconds from now."""
    if retry_after.strip().isdecimal():
        return float(retry_after)
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    except ValueError:  # absent, or not a date
        return 0.0


def _cause(error: BaseException) -> str:
    """The innermost reason, without the names of the classes it passed through."""
    if error.args and isinstance(getattr(error.args[0], "reason", None), BaseException):
        error = error.args[0].reason
    reason = re.sub(r"^.*?\): |\(Caused by.*", "", without_secrets(str(error))).strip()
    return reason or type(error).__name__
