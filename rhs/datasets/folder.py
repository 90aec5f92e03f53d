"""Your own images: a folder or an archive with one folder per class."""

import hashlib
import os
import stat
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from rhs.config.redact import without_secrets
from rhs.data.image_formats import HEAD
from rhs.datasets.archive import ACCEPTED, Found, Listing, list_archive
from rhs.datasets.download.downloads import Downloads
from rhs.datasets.file_names import one_spelling
from rhs.datasets.ignored_files import OTHER, SYSTEM, Sorted, is_system, sort_out, summary
from rhs.datasets.raw_folder import ImageFile, Refused, write_raw
from rhs.datasets.split_folders import arrange, check_setting, same_names
from rhs.datasets.table_labels import alike
from rhs.errors import UserError
from rhs.paths import locate
from rhs.storage.atomic import atomic_folder
from rhs.storage.csv_lists import Lists, lists
from rhs.storage.outputs import RAW

NO_CLASS = "no class: it lies outside any class folder"
UNLABELLED = "no class: it lies right in a split folder"


def fetch(
    out: Path, source: str, downloads: Downloads | None = None, split_folders: str = "auto"
) -> dict[str, Any]:
    """Index `source` into the raw folder `out` (see `rhs.datasets.raw_folder`); nothing is
    unpacked, and nothing downloaded.

    The class of an image is the path of its folder, so nested folders join their names with "/". A
    single folder around all class folders, as archives often have, is not part of the names. Files
    of systems, other versions of a picture and files that are no images are passed over. Images
    outside any class folder, links out of the folder and devices are refused and named. What was
    passed over and refused is in `out`, in passed_over.csv and refused.csv, or beside `out` where
    this ends with an error. Whether an image is whole is found out in preprocess.

    Args:
        split_folders: what train/, val/, test/ around the class folders mean, see
            `rhs.datasets.split_folders`.

    Returns:
        What `out/source.json` says.

    Raises:
        UserError: `source` is missing, empty, damaged, not an archive, harmful, has fewer than
            four classes, or split folders that it cannot be split by. Nothing is left at `out`
            then.
    """
    split_folders = check_setting(split_folders)
    path = _locate(source)
    with atomic_folder(out, RAW) as raw, lists(out, raw) as named:
        listing = _list_directory(path) if path.is_dir() else list_archive(path, raw)
        if not any(listing):
            raise UserError(f"dataset.source {source} is empty; accepted: {ACCEPTED}.")
        files = sort_out(listing.found)
        passed, refused = listing.hidden + files.passed, listing.refused + files.refused
        _name(named, passed, refused)
        images, classless = name_classes(files.taken)
        images, unlabelled = _split(images, split_folders, source)
        passed, refused = passed + unlabelled, refused + classless
        _name(named, passed, refused)
        hint = _hint(path, refused, files)
        notes = {"hidden_files_skipped": len(listing.hidden)}
        if others := len(passed) - len(listing.hidden):
            notes["other_files"] = others
        short = f"{_passed(passed, files)}; all in {named.beside('passed_over')}" if passed else ""
        why = "; ".join(filter(None, (hint, short)))
        description = write_raw(
            raw, out.name, source, images, refused=refused, notes=notes, hint=why
        )
        if passed:
            print(f"folder: {_passed(passed, files)}; all in {named.inside('passed_over')}")
        classes = [image.class_name for image in images]
        folders = same_names([tuple(name.split("/")) for name in classes])
        for sentence in filter(None, (hint, alike(classes), folders)):
            print(f"folder: {sentence}", flush=True)
        return description


def _locate(source: str) -> Path:
    """Where `source` is; raises UserError unless it is a file or folder that can be read."""
    path, shown = locate(source), without_secrets(source)
    if not path.exists():
        raise UserError(f"dataset.source {shown} does not exist; accepted: {ACCEPTED}.")
    is_either = path.is_dir() or path.is_file()
    if not is_either or not os.access(path, os.R_OK):
        why = "cannot be read" if is_either else "is no file or folder"
        raise UserError(f"dataset.source {shown} {why}; accepted: {ACCEPTED}.")
    return path


def name_classes(found: list[Found]) -> tuple[list[ImageFile], list[Refused]]:
    """Name each file's class by its folder; files outside any class folder are refused."""
    wrapper = _wrapper([f.path for f in found])
    images, refused = [], []
    for path, file, offset, size, sha256, _ in found:
        name = path[len(wrapper) :]
        folder = one_spelling(name.rpartition("/")[0])
        if folder:
            images.append(ImageFile(name, folder, file, offset, size, sha256))
        else:
            refused.append(Refused(name, NO_CLASS))
    return images, refused


def _wrapper(paths: list[str]) -> str:
    """The folders ("a/b/") around all class folders; "" if there are none.

    A folder that holds images itself is a class, not a wrapper.
    """
    wrapper = ""
    while True:
        inside = [PurePosixPath(path[len(wrapper) :]).parts for path in paths]
        tops = {parts[0] for parts in inside}
        if len(tops) != 1 or any(len(parts) < 3 for parts in inside):
            return wrapper
        wrapper += f"{tops.pop()}/"


def _split(
    images: list[ImageFile], setting: str, source: str
) -> tuple[list[ImageFile], list[Refused]]:
    """The images with class and split as split folders say, and those that have no class so."""
    if not images:
        return [], []
    folders = [tuple(image.class_name.split("/")) for image in images]
    arranged = arrange(folders, setting, source)
    if arranged.note:
        print(f"folder: {arranged.note}", flush=True)
    kept, unlabelled = [], []
    for image, parts, split in zip(images, arranged.classes, arranged.splits, strict=True):
        if parts is None:
            unlabelled.append(Refused(image.name, UNLABELLED))
        else:
            kept.append(image._replace(class_name="/".join(parts), split=split))
    return kept, unlabelled


def _name(named: Lists, passed: Sequence[Refused], refused: Sequence[Refused]) -> None:
    named.rows["passed_over"] = [Refused._fields, *sorted(passed)]
    named.rows["refused"] = [Refused._fields, *sorted(refused)]


def _passed(passed: Sequence[Refused], files: Sorted) -> str:
    """What was passed over, and where no image is but what was passed over."""
    with_images = {file.path.rpartition("/")[0] for file in files.taken}
    without = {e.name.rpartition("/")[0] for e in files.passed if e.why.startswith(OTHER)}
    bare = sorted(without - with_images - {""})
    more = f" and {len(bare) - 5} more" if len(bare) > 5 else ""
    none = f"; no image lies right in {', '.join(bare[:5])}{more}" if bare else ""
    return f"passed over: {summary(passed)}{none}"


def _hint(path: Path, refused: Sequence[Refused], files: Sorted) -> str:
    """What would bring in more images, as far as can be told; "" if there is nothing."""
    hints = []
    if links := sum(entry.why.startswith("link:") for entry in refused):
        command = f"cp -rL {path} COPY" if path.is_dir() else "tar --dereference, or zip,"
        hints.append(
            f"{links} links were not followed; {command} makes one with the files themselves"
        )
    archives = [e.name for e in files.passed if e.why.rpartition("; ")[2].startswith("unpack")]
    if archives:
        more = f" and {len(archives) - 3} more" if len(archives) > 3 else ""
        hints.append(
            f"archives inside are not opened: unpack {', '.join(archives[:3])}{more}, and give "
            "the folder"
        )
    return "; ".join(hints)


def _list_directory(root: Path) -> Listing:
    listing = Listing([], [], [])
    real_root = root.resolve()

    def unreadable(error: OSError) -> None:
        name = _printable(os.path.relpath(error.filename, root))
        listing.refused.append(Refused(name, f"unreadable: {error.strerror}"))

    for folder, subfolders, files in os.walk(root, onerror=unreadable):
        subfolders.sort()
        for entry in sorted(files) + [s for s in subfolders if Path(folder, s).is_symlink()]:
            path = Path(folder, entry)
            name = path.relative_to(root).as_posix()
            if is_system(name):
                listing.hidden.append(Refused(_printable(name), SYSTEM))
            elif why := _why_not(path, real_root):
                listing.refused.append(Refused(_printable(name), why))
            else:
                data = path.read_bytes()
                position = (str(path.resolve()), 0, len(data), hashlib.sha256(data).hexdigest())
                listing.found.append(Found(name, *position, data[:HEAD]))
    return listing


def _printable(name: str) -> str:
    return os.fsencode(name).decode("utf-8", "backslashreplace")


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
