"""Your own images: a folder or an archive with one folder per class."""

import hashlib
import os
import stat
from pathlib import Path, PurePosixPath
from typing import Any

from rhs.datasets.archive import ACCEPTED, Found, Listing, is_hidden, list_archive
from rhs.datasets.download import Downloads
from rhs.datasets.raw import ImageFile, Refused, write_raw
from rhs.errors import UserError
from rhs.redact import without_secrets
from rhs.storage.atomic import whole_folder

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm")


def fetch(out: Path, source: str, downloads: Downloads | None = None) -> dict[str, Any]:
    """Index `source` into the raw folder `out` (see `rhs.datasets.raw`); nothing is unpacked, and
    nothing downloaded.

    The class of an image is the path of its folder, so nested folders join their names with "/". A
    single folder around all class folders, as archives often have, is not part of the names. Files
    outside any class folder, links out of the folder and devices are refused and named; whether a
    file is an image is found out when it is decoded, in preprocess.

    Returns:
        What `out/source.json` says.

    Raises:
        UserError: `source` is missing, empty, damaged, not an archive, harmful, or has fewer than
            four classes. Nothing is left at `out` then.
    """
    path = Path(os.path.expanduser(source))
    if not path.exists():
        raise UserError(
            f"dataset.source {without_secrets(source)} does not exist; accepted: {ACCEPTED}."
        )
    with whole_folder(out) as raw:
        listing = _list_directory(path) if path.is_dir() else list_archive(path, raw)
        if not listing.found and not listing.refused:
            raise UserError(f"dataset.source {source} is empty; accepted: {ACCEPTED}.")
        images, classless = name_classes(listing.found)
        notes = {"hidden_files_skipped": listing.hidden}
        return write_raw(raw, out.name, source, images, listing.refused + classless, notes)


def name_classes(found: list[Found]) -> tuple[list[ImageFile], list[Refused]]:
    """Name each file's class by its folder; files outside any class folder are refused."""
    wrapper = _wrapper([f.path for f in found])
    images, refused = [], []
    for path, file, offset, size, sha256 in found:
        name = path[len(wrapper) :]
        folder, _, _ = name.rpartition("/")
        if folder:
            images.append(ImageFile(name, folder, file, offset, size, sha256))
        else:
            refused.append(Refused(name, "no class: it lies outside any class folder"))
    return images, refused


def _wrapper(paths: list[str]) -> str:
    """The folders ("a/b/") around all class folders; "" if there are none.

    A folder that holds images itself is a class, not a wrapper; a README in it does no harm.
    """
    wrapper = ""
    while True:
        inside = [PurePosixPath(path[len(wrapper) :]).parts for path in paths]
        tops = {parts[0] for parts in inside}
        direct = any(len(p) < 3 and p[-1].lower().endswith(IMAGE_SUFFIXES) for p in inside)
        if len(tops) != 1 or direct or all(len(p) < 3 for p in inside):
            return wrapper
        wrapper += f"{tops.pop()}/"


def _list_directory(root: Path) -> Listing:
    found: list[Found] = []
    refused: list[Refused] = []
    hidden = 0
    real_root = root.resolve()

    def unreadable(error: OSError) -> None:
        name = os.fsencode(os.path.relpath(error.filename, root)).decode(
            "utf-8", "backslashreplace"
        )
        refused.append(Refused(name, f"unreadable: {error.strerror}"))

    for folder, subfolders, files in os.walk(root, onerror=unreadable):
        subfolders.sort()
        for entry in sorted(files) + [s for s in subfolders if Path(folder, s).is_symlink()]:
            path = Path(folder, entry)
            name = path.relative_to(root).as_posix()
            printable = os.fsencode(name).decode("utf-8", "backslashreplace")
            if is_hidden(name):
                hidden += 1
            elif why := _why_not(path, real_root):
                refused.append(Refused(printable, why))
            else:
                data = path.read_bytes()
                digest = hashlib.sha256(data).hexdigest()
                found.append(Found(name, str(path.resolve()), 0, len(data), digest))
    return Listing(found, refused, hidden)


def _why_not(path: Path, root: Path) -> str | None:
    if path.is_symlink():
        if path.is_dir():
            return f"link: to the folder {os.readlink(path)}, and links to folders are not followed"
        if not path.exists() or not path.resolve().is_relative_to(root):
            return f"link: to {os.readlink(path)}, which is not in the folder"
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        return "not a regular file"
    if not os.access(path, os.R_OK):
        return "unreadable: no permission"
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return "unreadable: its path is not UTF-8"
    return None
