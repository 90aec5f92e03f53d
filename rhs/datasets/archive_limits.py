"""How much an archive may hold: one that is made to fill a disk or the memory is refused."""

import io
import tarfile
from pathlib import Path
from typing import NamedTuple

from rhs.errors import UserError


class Limits(NamedTuple):
    """What an archive may hold: far above every published set of images, far below a bomb.

    Images are compressed already, so that an archive unpacks to little more than its size; only
    thousands of tiny files, or drawings stored without compression, come to a ratio of tens. What
    unpacks to less than `always` is harmless at any ratio.
    """

    members: int = 5_000_000
    member: int = 1 << 30  # bytes of one file
    total: int = 1 << 40  # bytes unpacked
    ratio: int = 200  # bytes unpacked per byte of the archive; deflate's most is about 1,000
    always: int = 1 << 30  # bytes unpacked

    def check_member(self, source: Path, name: str, size: int) -> None:
        if size > self.member:
            raise UserError(
                f"{source} has a file of {size:,} bytes, {name!r}; at most {self.member:,} are "
                "taken: split it, or leave it out."
            )

    def check_count(self, source: Path, count: int) -> None:
        if count > self.members:
            raise UserError(
                f"{source} has more than {self.members:,} files and folders, which is the most "
                "that is taken: split it."
            )

    def check_total(self, source: Path, unpacked: int) -> None:
        size = source.stat().st_size
        most = min(self.total, max(self.always, self.ratio * size))
        if unpacked > most:
            raise UserError(
                f"{source} unpacks to more than {most:,} bytes from {size:,}: nothing was taken "
                "from it, as archives made to fill a disk do that; unpack it yourself if you trust "
                "it, and give the folder."
            )


LIMITS = Limits()


class Headers(io.BufferedReader):
    """A tar for `tarfile`, which would take headers of any length into memory.

    It reads nothing else when it lists a tar, but passes over the files.

    Raises:
        tarfile.ReadError: from `read`: more than `left`.
    """

    most = 1 << 20  # bytes of headers before one file: long names and the like
    left = most  # bytes that may still be read

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= self.left:
            raise tarfile.ReadError(f"a file's headers are larger than {self.most:,} bytes")
        self.left -= size
        return super().read(size)
