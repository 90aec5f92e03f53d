"""What the published data sets share: archives that are read by name, lists, fixed counts."""

import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from rhs.data.image_formats import IMAGE_ENDINGS, ending
from rhs.datasets.archive import list_archive
from rhs.datasets.download.downloads import Downloads, RemoteFile, Unavailable
from rhs.datasets.raw_folder import ImageFile
from rhs.errors import UserError

T = TypeVar("T")
ANEW = "get the official files, see docs/datasets.md"


class Expected(NamedTuple):
    """How large a data set is. Queries and the gallery are both of the test classes."""

    images: dict[str, int]  # by split
    classes: dict[str, int]  # "train", "test"


class Entry(NamedTuple):
    """One image as a list has it."""

    member: str  # path in the archive
    name: str  # in the index
    class_name: str
    split: str


class Archive:
    """A published archive whose files, hidden ones excepted, are readable by name.

    The raw folder keeps all of it in one tar, so that nothing else is needed to read the images.

    Args:
        path: .tar, .tar.gz, .tgz or .zip.
        raw: the raw folder.
        part: the folder inside `raw` for the tar, where a data set has several archives.

    Raises:
        UserError: see `rhs.datasets.archive.list_archive`.
    """

    def __init__(self, path: Path, raw: Path, part: str = "") -> None:
        self.path, self._raw = path, raw
        folder = raw / part
        folder.mkdir(exist_ok=True)
        listing = list_archive(path, folder)
        self.refused, self.hidden = listing.refused, listing.hidden
        tar = Path(part, "images.tar").as_posix()
        if not (raw / tar).exists():  # `path` is a plain tar, which was listed where it lies
            _link_or_copy(path, raw / tar)
        self.files = {found.path: found._replace(file=tar) for found in listing.found}

    def read(self, name: str) -> bytes:
        """A file's content.

        Raises:
            UserError: the archive has no such file.
        """
        if name not in self.files:
            raise UserError(f"{self.path} holds no {name}: {ANEW}.")
        found = self.files[name]
        with (self._raw / found.file).open("rb") as stream:
            stream.seek(found.offset)
            return stream.read(found.size)

    def images(self, entries: Iterable[Entry], label_file: str) -> list[ImageFile]:
        """The images of a list, which `label_file` names in messages.

        Raises:
            UserError: the archive does not hold all of them, or one is listed twice.
        """
        entries = list(entries)
        if absent := [entry.member for entry in entries if entry.member not in self.files]:
            raise UserError(
                f"{self.path} holds {len(entries) - len(absent)} of the {len(entries)} images that "
                f"{label_file} lists, and not {absent[0]}: {ANEW}."
            )
        members = Counter(entry.member for entry in entries)
        if repeated := [member for member, times in members.items() if times > 1]:
            raise UserError(f"{label_file} lists {repeated[0]} more than once.")
        images = []
        for entry in entries:
            position = self.files[entry.member][1:5]
            images.append(ImageFile(entry.name, entry.class_name, *position, entry.split))
        return images


def notes_on(archives: Sequence[Archive], images: Sequence[ImageFile]) -> dict[str, Any]:
    """What of the archives is in the index, and how much of what else they hold."""
    indexed = {(image.file, image.offset) for image in images}
    rest = [f for a in archives for f in a.files.values() if (f.file, f.offset) not in indexed]
    pictures = sum(ending(f.path) in IMAGE_ENDINGS for f in rest)
    return {
        "archives": [archive.path.name for archive in archives],
        "images_not_listed": pictures,
        "other_files": len(rest) - pictures,
        "hidden_files_skipped": sum(len(archive.hidden) for archive in archives),
    }


def check_counts(images: Sequence[ImageFile], expected: Expected, source: str) -> None:
    """Raises UserError, naming `source`, unless there are as many as the data set has."""
    found = Counter(image.split for image in images)
    names: dict[str, set[str]] = defaultdict(set)
    for image in images:
        names["train" if image.split == "train" else "test"].add(image.class_name)
    classes = {side: len(names[side]) for side in expected.classes}
    if {**found} != expected.images or classes != expected.classes:
        counts = Expected({split: found[split] for split in expected.images}, classes)
        raise UserError(
            f"{source} is not the official data set: it has {_said(counts)}, and the official one "
            f"{_said(expected)}; {ANEW}."
        )


def _said(counts: Expected) -> str:
    images = ", ".join(f"{n:,} {split}" for split, n in counts.images.items())
    classes = ", ".join(f"{n:,} {side}" for side, n in counts.classes.items())
    return f"{sum(counts.images.values()):,} images ({images}) of {classes} classes"


def rows_of(text: bytes, columns: Sequence[str], file: str, header: int = 0) -> Iterator[list[str]]:
    """The rows of a list whose columns are separated by spaces; empty lines are passed over.

    Args:
        header: lines before the first row.

    Raises:
        UserError: not text, or a row has more or fewer columns.
    """
    try:
        lines = text.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise UserError(f"{file} is not a text file: {ANEW}.") from None
    for number, line in enumerate(lines[header:], header + 1):
        cells = line.split()
        if len(cells) not in (0, len(columns)):
            raise UserError(
                f"Line {number} of {file} is {line[:80]!r}; accepted: {' '.join(columns)}."
            )
        if cells:
            yield cells


def first_packing(
    downloads: Downloads, dataset: str, packings: Sequence[tuple[RemoteFile, ...]], page: str
) -> tuple[int, list[Path]]:
    """The number and files of the first packing that can be had, see `use_packing`."""
    return use_packing(downloads, dataset, packings, page, lambda number, paths: (number, paths))


def use_packing(
    downloads: Downloads,
    dataset: str,
    packings: Sequence[tuple[RemoteFile, ...]],
    page: str,
    use: Callable[[int, list[Path]], T],
) -> T:
    """What `use` makes of a packing's number and files, of several packings of the same content.

    One whose files are all here or in the mirror is taken before any public address is asked;
    otherwise the packings that have addresses are tried in order. Where `use` raises UserError, so
    that the files are not what they should be, the next packing has its turn.

    Raises:
        Unavailable: none can be had; the sentence names every file and where to put it, and those
            that were refused.
    """
    absent: list[list[RemoteFile]] = []
    refused: dict[int, str] = {}
    for number, packing in enumerate(packings):
        places = [_already_here(downloads, dataset, file) for file in packing]
        here = [path for path in places if path]
        if len(here) == len(packing):
            try:
                return use(number, here)
            except UserError as error:
                refused[number] = _refusal(here, error)
        absent.append([file for file, path in zip(packing, places, strict=True) if not path])
    for number, packing in enumerate(packings):
        if number in refused or not all(file.urls for file in absent[number]):
            continue
        try:
            paths = [downloads.get(file, dataset) for file in packing]
        except Unavailable:  # which has said why
            continue
        try:
            return use(number, paths)
        except UserError as error:
            refused[number] = _refusal(paths, error)
    raise Unavailable(_none_right(downloads, dataset, packings, page, absent, refused))


def _none_right(
    downloads: Downloads,
    dataset: str,
    packings: Sequence[tuple[RemoteFile, ...]],
    page: str,
    absent: list[list[RemoteFile]],
    refused: dict[int, str],
) -> str:
    wanted = "; or ".join(" and ".join(map(_with_digest, packing)) for packing in packings)
    begun = [
        ", ".join(file.name for file in files)
        for packing, files in zip(packings, absent, strict=True)
        if 0 < len(files) < len(packing)
    ]
    missing = f" (missing beside what is here: {'; or '.join(begun)})" if begun else ""
    wrong = f" [{'; '.join(refused.values())}]" if refused else ""
    return (
        f"{dataset} could not be had{missing}{wrong}: put {wanted} into "
        f"{(Path(downloads.folder) / dataset).absolute()}, or set fetch.mirror or RHS_MIRROR to a "
        f"folder or address that has them; see {page}."
    )


def _refusal(paths: list[Path], error: UserError) -> str:
    names = " and ".join(map(str, paths))
    said = f"refused, {str(error).removesuffix('.')}; delete {names}"
    print(said, flush=True)
    return said


def _with_digest(file: RemoteFile) -> str:
    return f"{file.name} ({file.digest})" if file.digest else file.name


def _already_here(downloads: Downloads, dataset: str, file: RemoteFile) -> Path | None:
    try:
        return downloads.get(file._replace(urls=()), dataset)
    except Unavailable:
        return None


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source.resolve(), target)
    except OSError:  # another disk, or one that has no links
        shutil.copyfile(source, target)
