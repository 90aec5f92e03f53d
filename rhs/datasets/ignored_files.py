"""What lies among images and is none: files of systems, other versions, annotations.

Files of systems are known by their names, and never read. The rest is told from images by its
ending, or, where that says nothing, by its first bytes.
"""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from rhs.data.image_formats import (
    IMAGE_ENDINGS,
    RAW_ENDINGS,
    TAKEN,
    UNREAD,
    VERSION_ENDINGS,
    content,
    ending,
    not_read,
)
from rhs.datasets.raw_folder import Refused

SYSTEM = "file of a system"
VERSION = "other version"
OTHER = "not an image by its ending"
# Compared in lower case. Names that begin with "." are a system's or a program's too.
SYSTEM_FOLDERS = frozenset(
    {
        "__macosx",
        "network trash folder",
        "temporary items",
        "thefindbyfolder",  # Apple
        "@eadir",
        "#recycle",
        "#snapshot",
        "@tmp",
        "@sharebin",
        "@sharesnap",  # Synology
        "@recycle",
        "@recently-snapshot",
        "@transcode",  # QNAP
        "$recycle.bin",
        "system volume information",
        "lost+found",
        "$windows.~bt",
        "__pycache__",
        "captureone",
    }
)
SYSTEM_FILES = frozenset(
    {
        "thumbs.db",
        "thumbs.db:encryptable",
        "ehthumbs.db",
        "ehthumbs_vista.db",
        "desktop.ini",
        "icon\r",
        "icon\uf00d",
        "picasa.ini",
        "thumbnails-digikam.db",
        "digikam4.db",
    }
)
# Previews in Lightroom's folders; what a program or a download left unfinished or put aside.
LEFTOVER = re.compile(
    r".*(\.lrdata|\.lrcat|\.lrcat-data|\.cocatalog|\.tmp|\.temp|\.part|\.partial|\.crdownload"
    r"|\.download|\.bak|\.orig|_original|\.thm|~|[:\uf022\uf03a]?zone\.identifier"
    r"|[:\uf022\uf03a]afp_\w+|\.ds_store)",
    re.DOTALL,
)
PLACEHOLDER = re.compile(r"\.(icloud|nextcloud|owncloud|cloudf?)$", re.IGNORECASE)
CONFLICT = re.compile(
    r"(?P<stem>.+?)(?: \([^()]*(?:conflicted copy|case conflict)[^()]*\)"
    r"|\.sync-conflict-\d{8}-\d{6}-\w+|_conflict-\d{8}-\d{6})(?P<ending>\.\w+)?",
    re.IGNORECASE,
)


class Sorted(NamedTuple):
    """Files of a source, each in one of three."""

    taken: list  # of `rhs.datasets.archive.Found`
    refused: list[Refused]
    passed: list[Refused]


def is_system(path: str) -> bool:
    """Whether an operating system or a program, not a person, put this file there."""
    *folders, name = PurePosixPath(path).parts or ("",)
    if PLACEHOLDER.search(name):
        return False  # a person's image, which is elsewhere
    if any(is_system_folder(folder) for folder in folders) or name.startswith("."):
        return True
    name = name.lower()
    return name in SYSTEM_FILES or bool(LEFTOVER.fullmatch(name))


def is_system_folder(name: str) -> bool:
    """Whether nothing in a folder of this name is a person's."""
    folded = name.lower()
    return (
        name.startswith(".")
        or folded in SYSTEM_FOLDERS
        or name == "RECYCLER"
        or folded.endswith((".lrdata", ".lrcat-data"))
    )


def is_image(name: str, head: bytes) -> bool:
    """Whether a file is taken for an image: by its ending, or else by its first bytes."""
    return ending(name) in IMAGE_ENDINGS or content(head) in TAKEN | {"HEIC", "JPEG XL"}


def sort_out(found: Sequence) -> Sorted:
    """Tell images from what is none among files (`Found`) that are no system's."""
    names = {file.path for file in found}
    read = {_stem(n) for n in names if ending(n) in IMAGE_ENDINGS - VERSION_ENDINGS}
    result = Sorted([], [], [])
    for file in found:
        name = file.path
        if PLACEHOLDER.search(name):
            why = "placeholder: the image is in a cloud, and has to be downloaded first"
            result.refused.append(Refused(name, why))
        elif (original := _original(name)) in names:
            result.passed.append(Refused(name, f"{VERSION}: a conflicting copy of {original}"))
        elif ending(name) in VERSION_ENDINGS and _stem(name) in read:
            result.passed.append(Refused(name, f"{VERSION}: a picture of this name is beside it"))
        elif ending(name) in RAW_ENDINGS:
            result.refused.append(Refused(name, not_read("camera raw")))
        elif is_image(name, file.head):
            result.taken.append(file)
        else:
            result.passed.append(Refused(name, _why_none(name, file.head)))
    return result


def summary(passed: Sequence[Refused]) -> str:
    """Kinds and their numbers: "3 file of a system, 4 not an image by its ending (.txt 4)"."""
    kinds = Counter(entry.why.partition(":")[0] for entry in passed)
    endings = Counter(
        ending(entry.name) or "no ending" for entry in passed if entry.why.startswith(OTHER)
    )
    which = ", ".join(f"{name} {n}" for name, n in endings.most_common(5))
    more = f" and {len(endings) - 5} more" if len(endings) > 5 else ""
    return ", ".join(
        f"{n} {kind}{f' ({which}{more})' if kind == OTHER else ''}"
        for kind, n in sorted(kinds.items())
    )


def _stem(name: str) -> str:
    return name[: len(name) - len(ending(name))].lower()


def _original(name: str) -> str:
    """Of what a conflicting copy is one; "" if this is none."""
    folder, slash, last = name.rpartition("/")
    found = CONFLICT.fullmatch(last)
    return f"{folder}{slash}{found['stem']}{found['ending'] or ''}" if found else ""


def _why_none(name: str, head: bytes) -> str:
    kind = content(head)
    what = ending(name) or "none"
    return f"{OTHER}: {what}" + (f", {kind}; {UNREAD[kind]}" if kind in UNREAD else "")
