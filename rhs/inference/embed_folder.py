"""Embedding every image beneath a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from threading import RLock
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from rhs.data.embedding_files import Embeddings
from rhs.data.image_formats import RAW_ENDINGS, ending, not_read
from rhs.datasets.file_names import one_spelling
from rhs.datasets.ignored_files import is_system, is_system_folder
from rhs.errors import UserError
from rhs.inference.image_embedder import BATCH, ImageEmbedder
from rhs.preprocessing.prepare_image import (
    DECODER_ERRORS,
    FORMATS,
    BadImage,
    Prepared,
    TooManyPixels,
)
from rhs.preprocessing.prepare_rows import LARGE, LARGE_FILE

MOST_BYTES = 2**30  # of a file that is read
LINK = "a link to a folder"
_TURN = RLock()  # of large images, which are in memory one at a time


class Refused(NamedTuple):
    """A file that could not be embedded."""

    name: str
    reason: str


def embed_folder(
    folder: Path, model: ImageEmbedder, digest: str = ""
) -> tuple[Embeddings, list[Refused]]:
    """Embed every file beneath a folder, in the order of their names; systems' are passed over.

    An image's name is its path below the folder. Its class is the path of the folder it lies in, as
    in training; right in `folder` it has none (label -1). Links to folders are named, not followed.

    Args:
        digest: of the model, kept with the embeddings.

    Returns:
        The embeddings, and the files that cannot be embedded, with the reason.

    Raises:
        UserError: no such folder, or no image in it.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; a folder with images is needed.")
    refused: list[Refused] = []
    paths = sorted(_files(folder, refused), key=lambda path: path.relative_to(folder).parts)
    names, folders, embedded = [], [], [np.empty((0, model.dim), np.float32)]
    with (
        ThreadPoolExecutor(os.cpu_count() or 1) as pool,
        tqdm(total=len(paths), desc="embed", unit="image", disable=None) as bar,
    ):
        for start in range(0, len(paths), BATCH):
            part = paths[start : start + BATCH]
            pixels = []
            looks = pool.map(lambda path: _see(path, model), part)
            for path, seen in zip(part, looks, strict=True):
                name = printable(path.relative_to(folder).as_posix())
                if isinstance(seen, str):
                    refused.append(Refused(name, seen))
                else:
                    names.append(name)
                    folders.append(one_spelling(path.relative_to(folder).parent.as_posix()))
                    pixels.append(seen)
            embedded.append(model.embed(pixels))
            bar.update(len(part))
    if not names:
        why = f": {refused[0].name} is refused ({refused[0].reason})" if refused else ""
        raise UserError(f"{folder} holds no image that can be embedded{why}.")
    x_ND, (labels_N, class_names) = np.concatenate(embedded), _labels(folders)
    return Embeddings(x_ND, labels_N, names, class_names, None, digest), refused


def _labels(folders: Sequence[str]) -> tuple[NDArray[np.int64], list[str]]:
    """Each image's label [N] and class by its folder; "." is no class: -1 and ""."""
    numbers = {name: i for i, name in enumerate(sorted(set(folders) - {"."}))}
    labels_N = np.array([numbers.get(name, -1) for name in folders], np.int64)
    return labels_N, ["" if name == "." else printable(name) for name in folders]


def _files(folder: Path, refused: list[Refused]) -> Iterator[Path]:
    """The files beneath a folder; what cannot be looked into is added to `refused`."""

    def closed(error: OSError) -> None:
        name = Path(error.filename).relative_to(folder).as_posix()
        refused.append(Refused(printable(name), f"unreadable: {error.strerror}"))

    for place, folders, files in os.walk(folder, onerror=closed):
        folders[:] = [name for name in folders if not is_system_folder(name)]
        links = [Path(place, name) for name in folders if Path(place, name).is_symlink()]
        refused += [Refused(printable(p.relative_to(folder).as_posix()), LINK) for p in links]
        yield from (Path(place, name) for name in files if not is_system(name))


def _see(path: Path, model: ImageEmbedder) -> NDArray[np.uint8] | str:
    """The pixels that the model sees, or why there are none."""
    try:
        return model.pixels(prepared(path, model))
    except BadImage as bad:
        return str(bad)
    except OSError as error:
        return f"unreadable: {error.strerror}"


def prepared(path: Path, model: ImageEmbedder) -> Prepared:
    """What the pipeline makes of an image file; a large one waits for its turn.

    Raises:
        BadImage: it is no image, damaged, too large, or no regular file.
        OSError: it cannot be read.
    """
    if not path.is_file():
        raise BadImage("not a regular file")
    if ending(path.name) in RAW_ENDINGS:  # Pillow would take its preview, or a part of it
        raise BadImage(not_read("camera raw"))
    if (size := path.stat().st_size) > MOST_BYTES:
        raise BadImage(f"too many bytes: {size}, at most {MOST_BYTES} are read")
    if size > LARGE_FILE and not _looks_like_an_image(path):  # a film is not read to find out
        raise BadImage("not an image")
    with _TURN if size > LARGE_FILE else nullcontext():
        data = path.read_bytes()
        try:
            return model.prepare(data, LARGE)
        except TooManyPixels:
            pass  # for many at a time
        with _TURN:
            return model.prepare(data)


def _looks_like_an_image(path: Path) -> bool:
    try:
        with Image.open(path, formats=FORMATS):
            return True
    except UnidentifiedImageError:
        return False
    except (*DECODER_ERRORS, Image.DecompressionBombError):
        return True  # one that decoding refuses, with a better reason


def printable(text: str) -> str:
    """A name from a disk that any terminal and any file takes: odd characters are replaced."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text)
