"""Images inside archives, found without unpacking them.

A .tar is indexed where it lies. A .tar.gz, .tar.bz2, .tar.xz or .zip, whose members cannot be read
from the middle, becomes one .tar. Nothing is ever written under a member's own name, and yet an
archive with a member that points outside its folder is refused whole: it was made to do harm. So is
one that unpacks to more than `Limits` allow. Memory does not grow with the size of an archive or
its files.
"""

import hashlib
import io
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from rhs.data.image_formats import ARCHIVES, HEAD, UNREAD, content
from rhs.datasets.archive_limits import LIMITS, Headers, Limits
from rhs.datasets.download.partial_file import CHUNK, byte_bar, naming_errors
from rhs.datasets.file_names import zip_names
from rhs.datasets.ignored_files import SYSTEM, is_system
from rhs.datasets.raw_folder import Refused
from rhs.datasets.unpack import is_damage, unpack
from rhs.errors import UserError

ACCEPTED = (
    "a folder, .tar, .tar.gz (.tgz), .tar.bz2, .tar.xz or .zip with one folder of images per class"
)
# What the readers of the standard library raise, beside their own errors, at damaged bytes.
DAMAGE = (ValueError, OverflowError, IndexError, KeyError, RecursionError, struct.error)


class Found(NamedTuple):
    """A file of a source whose class is not yet known; the fields are those of `ImageFile`."""

    path: str
    file: str
    offset: int
    size: int
    sha256: str
    head: bytes = b""  # its first HEAD bytes


class Listing(NamedTuple):
    """What a source holds. Files of systems (.DS_Store, @eaDir/...) are `hidden`."""

    found: list[Found]
    refused: list[Refused]
    hidden: list[Refused]


def list_archive(source: Path, raw: Path, limits: Limits = LIMITS) -> Listing:
    """List an archive's files, writing `images.tar` into `raw` where `source` is not a plain tar.

    Raises:
        UserError: not an archive, damaged, encrypted, beyond the limits, or a member points outside
            the archive.
    """
    with source.open("rb") as stream:
        magic = stream.read(HEAD)
    if not magic:
        raise UserError(f"{source} is an empty file; accepted: {ACCEPTED}.")
    refused: list[Refused] = []
    hidden: list[Refused] = []
    tar, kind = raw / "images.tar", content(magic)
    with naming_errors(tar):
        if kind in ("gzip", "bzip2", "xz"):
            unpack(source, tar, limits, kind)
        elif kind == "zip archive":
            refused, hidden = _zip_to_tar(source, tar, limits)
        elif kind in ARCHIVES:
            raise UserError(
                f"{source} is {kind}, which is not read: {UNREAD[kind]}, and give the folder that "
                f"comes out as dataset.source; accepted: {ACCEPTED}."
            )
        else:
            return list_tar(source, str(source.resolve()), source, limits)
    listing = list_tar(tar, tar.name, source, limits)
    return Listing(listing.found, listing.refused + refused, listing.hidden + hidden)


def list_tar(path: Path, file: str, source: Path, limits: Limits = LIMITS) -> Listing:
    """List the regular files of the tar at `path`; `file` is the name the index gives it.

    Raises:
        UserError: naming `source`, where the tar is damaged, beyond the limits, or a member points
            outside it.
    """
    found: dict[str, Found] = {}
    refused: list[Refused] = []
    hidden: list[Refused] = []
    with path.open("rb") as stream, byte_bar(f"index {source.name}", path.stat().st_size) as bar:
        for count, member in enumerate(_members(path, source), 1):
            name = safe_name(member.name, source)
            limits.check_count(source, count)
            limits.check_member(source, name, member.size)
            why = _why_not(member)
            if is_system(name):
                hidden += [] if member.isdir() else [Refused(name, SYSTEM)]
            elif member.isdir():
                pass
            elif why:
                refused.append(Refused(name, why))
            else:
                if name in found:  # as an unpacking would: the last one stays
                    refused.append(Refused(name, "replaced: the archive holds this name again"))
                digest, head = _sha256(stream, member.offset_data, member.size)
                found[name] = Found(name, file, member.offset_data, member.size, digest, head)
            bar.update(member.offset_data + member.size - bar.n)
    return Listing(list(found.values()), refused, hidden)


def _members(path: Path, source: Path) -> Iterator[tarfile.TarInfo]:
    """Every member of a tar, and a UserError where `tarfile` would quietly stop at damage."""
    size = path.stat().st_size
    with Headers(path.open("rb", buffering=0)) as stream:
        try:
            with tarfile.open(fileobj=stream, mode="r:", encoding="utf-8") as tar:
                while member := tar.next():
                    _check_place(member, size)
                    yield member
                    tar.members = []  # type: ignore[attr-defined]  # it would keep them all
                    # What holds for all further members is kept in memory, and counts.
                    kept = sum(len(key) + len(text) for key, text in tar.pax_headers.items())
                    stream.left = stream.most - kept
                end = tar.offset  # where no further header was found: zeros, or the file's end
        except (tarfile.TarError, *DAMAGE, OSError) as error:
            if not is_damage(error):
                raise
            raise UserError(
                f"{source} is not an archive, or is damaged ({error}); accepted: {ACCEPTED}."
            ) from None
    with path.open("rb") as stream:
        stream.seek(end)
        if stream.read(tarfile.BLOCKSIZE).strip(b"\0"):
            raise UserError(f"{source} is damaged at byte {end}: no tar header there; get it anew.")


def _check_place(member: tarfile.TarInfo, end: int) -> None:
    stored = member.isreg() and not member.issparse()  # others have a size, but no such bytes
    if member.size < 0 or (stored and member.offset_data + member.size > end):
        raise tarfile.ReadError(f"a file of {member.size:,} bytes at byte {member.offset_data:,}")


def _why_not(member: tarfile.TarInfo) -> str | None:
    if member.issym() or member.islnk():
        return f"link: to {member.linkname}"
    if member.isdev():
        return "device"
    return None if member.isreg() and not member.issparse() else "not a regular file"


def safe_name(name: str, source: Path) -> str:
    """The member's path, normalized ("./a//b" is "a/b") and printable.

    Raises:
        UserError: the path is absolute or leads upwards.
    """
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts:
        raise UserError(
            f"{source} has a member that points outside its folder, {name!r}: nothing was taken "
            "from it; make the archive again with paths inside one folder."
        )
    # Python shows bytes that are not UTF-8 as lone surrogates, which no file format can store.
    raw = str(PurePosixPath(name)).encode("utf-8", "surrogateescape")
    return raw.decode("utf-8", "backslashreplace")


def _zip_to_tar(source: Path, target: Path, limits: Limits) -> tuple[list[Refused], list[Refused]]:
    """What is refused, and what is a system's."""
    refused: list[Refused] = []
    hidden: list[Refused] = []
    try:
        with zipfile.ZipFile(source) as archive, tarfile.open(target, "w", encoding="utf-8") as tar:
            members = archive.infolist()
            limits.check_count(source, len(members))
            size = sum(m.file_size for m in members)
            with byte_bar(f"unpack {source.name}", size) as bar:
                named = zip(zip_names(members), members, strict=True)
                for written, member in sorted(named, key=lambda each: each[0]):
                    name = safe_name(written, source)
                    # zipfile gives no more than a file's declared size, whatever is packed.
                    limits.check_member(source, name, member.file_size)
                    limits.check_total(source, tar.offset + member.file_size)
                    if is_system(name):
                        hidden += [] if written.endswith("/") else [Refused(name, SYSTEM)]
                    elif written.endswith("/"):
                        pass
                    elif stat.S_ISLNK(member.external_attr >> 16):
                        with archive.open(member) as stream:
                            where = stream.read(4096).decode(errors="replace")  # Linux's longest
                        refused.append(Refused(name, f"link: to {where}"))
                    else:
                        with archive.open(member) as stream:
                            _append(tar, name, member.file_size, stream)
                    bar.update(member.file_size)
    except UserError:
        raise
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, *DAMAGE) as error:
        raise UserError(f"{source} is damaged ({error}); get it anew.") from None
    except RuntimeError as error:  # so zipfile says: a password, or an unknown compression
        raise UserError(f"{source} cannot be read ({error}); make a plain .zip or .tar.") from None
    except OSError as error:
        if not is_damage(error):
            raise
        # Damaged bzip2; a file that is shorter than it says; or it begins before the archive.
        raise UserError(f"{source} is damaged ({error}); get it anew.") from None
    return refused, hidden


def add_to_tar(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """Append one file with nothing in its header that depends on when or by whom it is made."""
    _append(tar, name, len(data), io.BytesIO(data))


def _append(tar: tarfile.TarFile, name: str, size: int, stream: IO[bytes]) -> None:
    member = tarfile.TarInfo(name)
    member.size = size
    tar.addfile(member, stream)
    tar.getmembers().clear()  # it would keep them all


def _sha256(stream: IO[bytes], offset: int, size: int) -> tuple[str, bytes]:
    """The checksum of a part of `stream`, and its first bytes."""
    stream.seek(offset)
    digest, head = hashlib.sha256(), b""
    while size and (data := stream.read(min(CHUNK, size))):
        head = head or data[:HEAD]
        digest.update(data)
        size -= len(data)
    return digest.hexdigest(), head
