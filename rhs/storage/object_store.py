"""Object stores, S3 and others that fsspec knows, named by a URL (`s3://bucket/prefix`) alone.

Keys, and for a store that is not AWS its address, come from the environment of each process:
`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_ENDPOINT_URL`.
"""

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from rhs.errors import UserError, is_disk_full

# Stores that replace an object whole or not at all, and the package that fsspec needs for each.
PACKAGES = {
    "s3": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "memory": "fsspec",
}
SETTINGS = ("AWS_", "AZURE_", "GOOGLE_")  # of the environment
S3_OPTIONS = {
    "max_concurrency": 4,
    "default_block_size": 2**23,  # a download holds 32 MiB
    # s3fs tries five times; botocore beneath it would wait a minute each, five times too.
    "config_kwargs": {"connect_timeout": 5, "read_timeout": 60, "retries": {"max_attempts": 1}},
}


class ObjectStore:
    """A Store behind a URL. It may be used from any thread, pickled, and used after a fork.

    Raises:
        UserError: the URL names no store of a known kind, holds a password, or its kind needs a
            package that is not installed.
    """

    def __init__(self, url: str):
        self.location = url.rstrip("/")
        self._protocol = _protocol(url)

    def names(self) -> list[str]:
        with self._told() as files:
            files.invalidate_cache()
            try:
                found = files.ls(self._path(), detail=True)
            except FileNotFoundError:
                return []
            names = (entry["name"].rpartition("/")[2] for entry in found if entry["type"] == "file")
            return sorted(name for name in names if name and name[0] != ".")

    def read(self, name: str) -> bytes:
        with self._told(name) as files:
            return files.cat_file(self._path(name))

    def write(self, name: str, data: bytes) -> None:
        with self._told(name) as files:
            files.pipe_file(self._path(name), data)

    def delete(self, name: str) -> None:
        with self._told(name) as files, suppress(FileNotFoundError):
            files.rm_file(self._path(name))

    def delete_leftovers(self) -> None:
        """Drop uploads of large objects that never ended: they have no name, but are paid for."""
        if self._protocol != "s3":
            return
        bucket, _, prefix = self._path().partition("/")
        # Not every key may list them, and not every store knows them; nothing depends on it.
        with suppress(OSError), self._told() as files:
            listed = files.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=f"{prefix}/")
            for upload in listed.get("Uploads", []):
                files.abort_mpu(bucket, upload["Key"], upload["UploadId"])

    def size(self, name: str) -> int | None:
        """Bytes of an object; None where there is none of that name."""
        with self._told(name) as files:
            files.invalidate_cache()
            try:
                return int(files.info(self._path(name))["size"])
            except FileNotFoundError:
                return None

    def fetch(self, name: str, to: Path, came: Callable[[int], object]) -> None:
        """Bring an object into a file, a little at a time; `came` is called with bytes."""
        with self._told(name) as files:
            files.get_file(self._path(name), str(to), callback=_callback(came))

    def put(self, path: Path, name: str, went: Callable[[int], object]) -> None:
        """Write a file's bytes, a little at a time; `went` is called with bytes."""
        with self._told(name) as files:
            files.put_file(str(path), self._path(name), callback=_callback(went))

    def check(self) -> None:
        """Raises UserError unless an object can be written, read and deleted here."""
        name = f".check-{uuid.uuid4().hex[:8]}"
        try:
            self.write(name, b"rhs")
            self.read(name)
            self.delete(name)
        except OSError as error:
            raise UserError(
                f"{self.location} cannot be used ({_shown(error.__cause__ or error)}): the bucket "
                "must exist, and the keys in the environment (AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY for s3://, with AWS_ENDPOINT_URL if it is not AWS) must "
                "allow to read, write and delete there."
            ) from error

    def _files(self) -> Any:
        settings = (item for item in os.environ.items() if item[0].startswith(SETTINGS))
        return _filesystem(self._protocol, os.getpid(), tuple(sorted(settings)))

    def for_arrow(self) -> tuple[Any, str]:
        """The same place as pyarrow names it: a file system and a path in it."""
        from pyarrow.fs import FSSpecHandler, PyFileSystem

        return PyFileSystem(FSSpecHandler(self._files())), self._path()

    def _path(self, name: str = "") -> str:
        return "/".join([self.location.partition("://")[2], name]).rstrip("/")

    @contextmanager
    def _told(self, name: str = "") -> Iterator[Any]:
        """Gives the filesystem; what it raises leaves as an OSError that names the object."""
        where = f"{self.location}/{name}".rstrip("/")
        try:
            yield self._files()
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{where} is not there") from error
        except PermissionError as error:
            raise PermissionError(f"{where} is not permitted ({_shown(error)})") from error
        except OSError as error:
            if is_disk_full(error):  # of the disk that it is fetched to
                raise
            raise OSError(f"{where} failed ({_shown(error)})") from error
        except Exception as error:  # each kind of store has exceptions of its own
            raise OSError(f"{where} failed ({_shown(error)})") from error


@lru_cache(maxsize=4)
def _filesystem(protocol: str, process: int, settings: tuple) -> Any:
    """One of fsspec, for all stores of a process: its sockets do not survive a fork.

    Args:
        settings: of the environment, so that other keys are another filesystem.
    """
    import fsspec

    options: dict = {"use_listings_cache": False, "skip_instance_cache": True}
    return fsspec.filesystem(protocol, **options, **(S3_OPTIONS if protocol == "s3" else {}))


def _protocol(url: str) -> str:
    """The kind of store that a URL names, which can be used here."""
    import fsspec

    scheme, _, place = url.partition("://")
    protocol = scheme.lower()
    if set(place) & set("@?#"):  # not parsed first: a key with a `/` in it would end the login
        raise UserError(
            f"The URL {scheme}://… holds more than a bucket and a path, which have no @, ? or #: "
            "keys belong into the environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for "
            "s3://)."
        )
    if protocol not in PACKAGES or not place.partition("/")[0]:
        raise UserError(
            f"{url!r} names no store; accepted: a folder, or "
            f"{', '.join(f'{name}://bucket/path' for name in PACKAGES if name != 'memory')}."
        )
    try:
        fsspec.get_filesystem_class(protocol)
    except ImportError:
        package = PACKAGES[protocol]
        how = "'.[s3]'" if protocol == "s3" else package
        raise UserError(
            f"{url} needs the package {package}, which is not installed: pip install {how}"
        ) from None
    return protocol


def _shown(error: BaseException) -> str:
    """What an error says, on one line."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def _callback(seen: Callable[[int], object]) -> Any:
    from fsspec.callbacks import Callback

    class Seen(Callback):
        def relative_update(self, inc: int = 1) -> None:
            seen(inc)

    return Seen()
