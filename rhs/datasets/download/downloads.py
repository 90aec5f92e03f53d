"""Published files, each whole and verified in the downloads folder before anything reads it.

    data/downloads/<dataset>/<name>             the file
                             <name>.verified    size, time and digest that were found right
                             <name>.part        what came so far; the next attempt goes on from here
                             <name>.lock        held by the process that brings the file
                             <name>.wrong…      a file whose bytes were not the published ones

All of it may be deleted at any time, and is then brought again.
"""

import errno
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from rhs.config.redact import without_secrets as shown
from rhs.datasets.download.http_transfer import HTTPTransfer, Patience
from rhs.datasets.download.partial_file import (
    DownloadFailed,
    PartialFile,
    copy,
    human_size,
    naming_errors,
    wrong_digest,
)
from rhs.errors import UserError, check_number
from rhs.paths import in_project, locate
from rhs.storage.locks import locked


class RemoteFile(NamedTuple):
    """A file that somebody published."""

    name: str  # in the downloads folder and in a mirror, e.g. "CUB_200_2011.tgz"
    urls: tuple[str, ...]  # tried in order; (): no public address, a person has to place it
    digest: str | None  # "md5:<hex>" or "sha256:<hex>"; None: the data set checks the content
    size: int | None = None  # bytes, for messages and progress: the digest decides, not the size
    page: str = ""  # where a person finds it
    own_folder: bool = False  # in a mirror, only in the data set's folder: the name is anybody's


class Unavailable(UserError):
    """A file could not be had from anywhere; the data set may try another one."""


class Downloads:
    """The downloads folder and where its files come from.

    Args:
        folder: holds one folder per data set.
        mirror: a folder or an http(s) address that is tried first; None: what the environment
            variable RHS_MIRROR names, if anything.
        retries: attempts in a row that bring nothing new before an address is given up.
        timeout: seconds without a byte after which a connection counts as cut.

    Raises:
        UserError: a number is out of range.
    """

    def __init__(
        self,
        folder: Path | str = "data/downloads",
        mirror: str | None = None,
        retries: int = 5,
        timeout: float = 30.0,
    ):
        check_number("fetch.retries", retries, least=0, whole=True)
        check_number("fetch.timeout", timeout, above=0)
        self.folder = in_project(folder)
        self.patience = Patience(retries, timeout)
        self.mirror = str(mirror or "") or os.environ.get("RHS_MIRROR", "")
        self._mirror_from = "fetch.mirror" if mirror else "RHS_MIRROR"
        self._mirror_is_url = self.mirror.lower().startswith(("http://", "https://"))

    def get(self, file: RemoteFile, dataset: str) -> Path:
        """`<folder>/<dataset>/<file.name>`, whole and with the published digest.

        Raises:
            Unavailable: no address gave it; says why, and where to put it by hand.
            UserError: the mirror is no folder and no http(s) address, no space for the file, or
                the downloads folder cannot be written.
        """
        assert Path(file.name).name == file.name, file.name
        target = self.folder / dataset / file.name
        if target.is_file() and (file.digest is None or _stamped(target, file.digest)):
            return target  # before the lock: the folder may be another user's
        self._check_mirror()  # not before: most of one's own data sets download nothing
        with self._alone(target):
            failures = _set_aside_if_wrong(target, file.digest)
            if not target.is_file():
                self._bring(file, dataset, target, failures)
        return target

    def _check_mirror(self) -> None:
        if self.mirror and not self._mirror_is_url and not locate(self.mirror).is_dir():
            raise UserError(
                f"{self._mirror_from} is {shown(self.mirror)!r}, which is no folder here; "
                "accepted: a folder or an http:// or https:// address."
            )

    def _bring(self, file: RemoteFile, dataset: str, target: Path, failures: list[str]) -> None:
        for address in self._addresses(file, dataset):
            why = self._bring_from(address, file, target)
            if why is None:
                return
            failures.append(f"{shown(str(address))}: {why}")
            if not isinstance(address, Path):
                print(f"{file.name}: not from {failures[-1]}", flush=True)
        known = [human_size(file.size)] if file.size else []
        known += [file.digest] if file.digest else []
        about = f" ({', '.join(known)})" if known else ""
        page = f"get it at {file.page} and " if file.page else ""
        why = "; ".join(failures) or "it has no public address"
        kept = "; what came of it is kept, and the next run goes on from there"
        raise Unavailable(
            f"{file.name}{about} could not be had [{why}]: {page}put it at {target.absolute()}, or "
            "set fetch.mirror or RHS_MIRROR to a folder or address that holds it"
            f"{kept if PartialFile(target).size else ''}."
        )

    def _addresses(self, file: RemoteFile, dataset: str) -> list[str | Path]:
        """Where to look, the mirror first."""
        if self._mirror_is_url:
            base, name = self.mirror.rstrip("/"), quote(file.name)
            own: list[str | Path] = [f"{base}/{quote(dataset)}/{name}", *file.urls]
            return own if file.own_folder else [f"{base}/{name}", *own]
        if self.mirror:
            folder = locate(self.mirror)
            own = [folder / dataset / file.name, *file.urls]
            return own if file.own_folder else [folder / file.name, *own]
        return list(file.urls)

    def _bring_from(self, address: str | Path, file: RemoteFile, target: Path) -> str | None:
        """None if this address gave the right file, otherwise why not."""
        if isinstance(address, Path) and not address.exists():
            return "no such file"
        about = f" ({human_size(file.size)})" if file.size else ""
        print(f"fetching {file.name}{about} from {shown(str(address))}", flush=True)
        part, began = PartialFile(target), time.monotonic()
        try:
            wrong = self._transfer(address, file, part)
            if wrong:
                print(
                    f"{file.name} from {shown(str(address))}: {wrong}; once more from the start",
                    flush=True,
                )
                wrong = self._transfer(address, file, part)
        except DownloadFailed as error:
            return str(error)
        if wrong:
            return wrong
        part.become(target)
        _stamp(target, file.digest)
        seconds, size = time.monotonic() - began, human_size(target.stat().st_size)
        right = file.digest or "of which no digest is published"
        print(f"{target}: {size} in {seconds:.1f} s, {right}", flush=True)
        return None

    def _transfer(self, address: str | Path, file: RemoteFile, part: PartialFile) -> str | None:
        """Bring the whole part; None, or how its digest differs (and it is gone again)."""
        if isinstance(address, Path):
            copy(address, part)
        else:
            checked = file.digest is not None
            HTTPTransfer(address, part, self.patience, file.size, checked).run()
        wrong = wrong_digest(part.path, file.digest)
        if wrong:
            part.discard()
        return wrong

    @contextmanager
    def _alone(self, target: Path) -> Iterator[None]:
        """Only one process at a time brings `target`; the others wait and then find it."""
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            lock = locked(
                target.with_name(f"{target.name}.lock"),
                f"{target.name}: another process is fetching it",
            )
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise
            raise UserError(
                f"fetch.folder is {str(self.folder)!r}, where nothing can be written ({error}); "
                "give a folder that can."
            ) from None
        try:
            yield
        finally:
            lock.release()


def _set_aside_if_wrong(target: Path, digest: str | None) -> list[str]:
    """Rename a file that is there but not the published one; returns what to say about it."""
    if not target.is_file() or (digest and _stamped(target, digest)):
        return []
    wrong = wrong_digest(target, digest)
    if wrong is None:
        _stamp(target, digest)
        return []
    names = (f"{target.name}.wrong{number or ''}" for number in count())
    aside = next(path for path in map(target.with_name, names) if not os.path.lexists(path))
    target.rename(aside)  # not deleted: a person may have put it there
    said = f"{target}: {wrong}, now named {aside.name}"
    print(said, flush=True)
    return [said]


def _stamped(target: Path, digest: str) -> bool:
    """Whether these very bytes were found right before: gigabytes are not read at every run."""
    stamp = target.with_name(f"{target.name}.verified")
    if not stamp.exists():
        return False
    try:
        return json.loads(stamp.read_text()) == _identity(target, digest)
    except json.JSONDecodeError:  # killed while writing it
        return False


def _stamp(target: Path, digest: str | None) -> None:
    if digest is not None:
        with naming_errors(target):
            text = json.dumps(_identity(target, digest))
            target.with_name(f"{target.name}.verified").write_text(text)


def _identity(target: Path, digest: str) -> dict[str, int | str]:
    found = target.stat()
    return {"size": found.st_size, "mtime_ns": found.st_mtime_ns, "digest": digest}
