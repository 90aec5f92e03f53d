"""CUB-200-2011: 200 species of birds; the first 100 train, the others test.

Sources: URL and MD5 as in pytorch-metric-learning (docs/datasets.md) and avalanche (cub200.py);
size and the second address, of the same MD5, as in several public loaders; the split of the
zero-shot protocol is by class id (Oh Song et al., 2016).
"""

from pathlib import Path
from typing import Any

from rhs.datasets.download.downloads import Downloads, RemoteFile
from rhs.datasets.published import Archive, Entry, Expected, check_counts, notes_on, rows_of
from rhs.datasets.raw_folder import write_raw
from rhs.storage.atomic import atomic_folder
from rhs.storage.outputs import RAW

NAME = "cub200"
ARCHIVE = RemoteFile(
    "CUB_200_2011.tgz",
    (
        "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz",
        "https://s3.amazonaws.com/fast-ai-imageclas/CUB_200_2011.tgz",
    ),
    "md5:97eceeb196236b17998738112f37df78",
    1_150_585_339,
    "https://www.vision.caltech.edu/datasets/cub_200_2011/",
)
ROOT = "CUB_200_2011/"
LAST_TRAIN_CLASS = 100
EXPECTED = Expected({"train": 5_864, "test": 5_924}, {"train": 100, "test": 100})


def fetch(out: Path, source: str, downloads: Downloads) -> dict[str, Any]:
    """Index CUB-200-2011 into the raw folder `out`.

    The class of an image is what image_class_labels.txt says, named as in classes.txt
    ("001.Black_footed_Albatross"); the ids decide the split.

    Returns:
        What `out/source.json` says.

    Raises:
        UserError: the archive cannot be had, is damaged or is not the official one.
    """
    path = downloads.get(ARCHIVE, NAME)
    with atomic_folder(out, RAW) as raw:
        archive = Archive(path, raw)
        names = _column(archive, "classes.txt", "class_name")
        labels = _column(archive, "image_class_labels.txt", "class_id")
        entries = [
            Entry(f"{ROOT}images/{name}", name, names[labels[image]], _split(labels[image]))
            for image, name in _column(archive, "images.txt", "image_name").items()
        ]
        images = archive.images(entries, "images.txt")
        check_counts(images, EXPECTED, str(path))
        notes = notes_on([archive], images)
        return write_raw(raw, out.name, source, images, refused=archive.refused, notes=notes)


def _column(archive: Archive, file: str, what: str) -> dict[str, str]:
    """A list's second column by its first, which is an id."""
    return dict(rows_of(archive.read(ROOT + file), ("id", what), f"{archive.path}'s {file}"))


def _split(class_id: str) -> str:
    return "train" if int(class_id) <= LAST_TRAIN_CLASS else "test"
