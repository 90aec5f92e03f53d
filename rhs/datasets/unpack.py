"""A packed tar, unpacked within bounded memory."""

import bz2
import errno
import gzip
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from rhs.datasets.archive_limits import Limits
from rhs.datasets.download.partial_file import CHUNK, byte_bar
from rhs.errors import UserError

MOST_MEMORY = 1 << 28  # bytes; `xz -9` makes files that take 65 MiB


def unpack(source: Path, target: Path, limits: Limits, kind: str) -> None:
    """Write what `source`, a file of `kind` "gzip", "bzip2" or "xz", holds to `target`.

    Raises:
        UserError: it is damaged, or beyond the limits.
    """
    openers: dict[str, Any] = {"gzip": gzip.open, "bzip2": bz2.open, "xz": _bounded_xz}
    try:
        with (
            source.open("rb") as packed,
            openers[kind](packed) as stream,
            target.open("wb") as out,
            byte_bar(f"unpack {source.name}", source.stat().st_size) as bar,
        ):
            while data := stream.read(CHUNK):
                limits.check_total(source, out.tell() + len(data))
                out.write(data)
                bar.update(packed.tell() - bar.n)
    except (EOFError, zlib.error, lzma.LZMAError) as error:
        raise UserError(f"{source} is damaged ({error}); get it anew.") from None
    except OSError as error:
        if not is_damage(error):
            raise
        raise UserError(f"{source} is damaged ({error}); get it anew.") from None


def is_damage(error: Exception) -> bool:
    """Whether it is the archive's fault: a seek to nowhere, or a reader's OSError of its own."""
    return not isinstance(error, OSError) or error.errno in (None, errno.EINVAL)


class _Bounded:
    """Reads what is packed in `packed`, a file of one or more .xz streams.

    `lzma.open` would take what memory the file asks for, up to 4 GiB.
    """

    def __init__(self, packed: IO[bytes]) -> None:
        self._packed, self._rest = packed, b""
        self._decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, MOST_MEMORY)

    def read(self, size: int) -> bytes:
        """At most `size` bytes; b"" at the end.

        Raises:
            EOFError: the file ends within a stream.
            lzma.LZMAError: it is damaged, or takes more than MOST_MEMORY.
        """
        while True:
            if self._decoder.eof:
                rest = (self._decoder.unused_data or self._packed.read(CHUNK)).lstrip(b"\0")
                if not rest:
                    return b""
                self._decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, MOST_MEMORY)
                self._rest = rest
            elif self._decoder.needs_input and not self._rest:
                self._rest = self._packed.read(CHUNK)
                if not self._rest:
                    raise EOFError("it ends too early")
            data = self._decoder.decompress(self._rest, size)
            self._rest = b""
            if data:
                return data


@contextmanager
def _bounded_xz(packed: IO[bytes]) -> Iterator[_Bounded]:
    """A stream like that of `gzip.open`."""
    yield _Bounded(packed)
