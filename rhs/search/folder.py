"""Embedding every image beneath a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from rhs.data.images import BadImage
from rhs.errors import UserError
from rhs.retrieval.stored import Embedded
from rhs.search.encoded import BATCH, EncodedEmbedder


class Refused(NamedTuple):
    """A file that could not be embedded."""

    name: str
    reason: str


def embed_folder(
    folder: Path, model: EncodedEmbedder, digest: str = ""
) -> tuple[Embedded, list[Refused]]:
    """Embed every file beneath a folder, in the order of their names; hidden ones are passed over.

    An image's name is its path below the folder. Its class is the name of the folder it lies in;
    those right in `folder` have none (label -1). Links to folders are not followed.

    Args:
        digest: of the model, kept with the embeddings.

    Returns:
        The embeddings, and the files that are no image or a damaged one, with the reason.

    Raises:
        UserError: no such folder, or no image in it.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; a folder with images is needed.")
    paths = sorted(_files(folder), key=lambda path: path.relative_to(folder).parts)
    names, embedded, refused = [], [np.empty((0, model.dim), np.float32)], []
    with (
        ThreadPoolExecutor(os.cpu_count() or 1) as pool,
        tqdm(total=len(paths), desc="embed", unit="image", disable=None) as bar,
    ):
        for start in range(0, len(paths), BATCH):
            part = paths[start : start + BATCH]
            pixels = []
            for path, seen in zip(
                part, pool.map(lambda path: _see(path, model), part), strict=True
            ):
                name = printable(path.relative_to(folder).as_posix())
                if isinstance(seen, str):
                    refused.append(Refused(name, seen))
                else:
                    names.append(name)
                    pixels.append(seen)
            embedded.append(model.embed(pixels))
            bar.update(len(part))
    if not names:
        why = f": {refused[0].name} is refused ({refused[0].reason})" if refused else ""
        raise UserError(f"{folder} holds no image that can be embedded{why}.")
    class_names = [Path(name).parent.name for name in names]
    numbers = {name: i for i, name in enumerate(sorted(set(class_names) - {""}))}
    labels = np.array([numbers.get(name, -1) for name in class_names], np.int64)
    return Embedded(np.concatenate(embedded), labels, names, class_names, None, digest), refused


def _files(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(place, name) for name in files if not name.startswith("."))


def _see(path: Path, model: EncodedEmbedder) -> NDArray[np.uint8] | str:
    """The pixels that the model sees, or why there are none."""
    try:
        if not path.is_file():
            return "not a regular file"
        return model.pixels(model.prepare(path.read_bytes()))
    except BadImage as bad:
        return str(bad)
    except OSError as error:
        return f"unreadable: {error.strerror}"


def printable(text: str) -> str:
    """A name from a disk that any terminal and any file takes: odd characters are replaced."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text)
