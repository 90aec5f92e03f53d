"""Cars196 (Stanford Cars): 196 models of cars; the first 98 train, the others test.

The classification task's own train and test folders are merged: the zero-shot protocol splits by
class id (Oh Song et al., 2016). The hosts of the original files are gone, so several packings are
accepted. Sources: MD5 of archives as in torchvision (stanford_cars.py) and pytorch-metric-learning,
of the two images as in public loaders; addresses as in open-metric-learning's dataset tools
(CARS196.zip), dvl-tum/intra_batch (CARS.zip), pytorch-metric-learning (the folders) and
pytorch/vision issue 7545 (the devkit).
"""

import hashlib
import io
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from scipy.io import loadmat

from rhs.data.image_formats import IMAGE_ENDINGS, ending
from rhs.datasets.download.downloads import Downloads, RemoteFile
from rhs.datasets.published import (
    ANEW,
    Archive,
    Entry,
    Expected,
    check_counts,
    notes_on,
    use_packing,
)
from rhs.datasets.raw_folder import ImageFile, write_raw
from rhs.errors import UserError
from rhs.storage.atomic import atomic_folder
from rhs.storage.outputs import RAW

NAME = "cars196"
CLASSES = Path(__file__).with_name("cars196_classes.txt").read_text().splitlines()  # by id, from 1
PAGE = "https://github.com/pytorch/vision/issues/7545"


def _file(name: str, md5: str | None = None, url: str | None = None) -> RemoteFile:
    return RemoteFile(name, (url,) if url else (), md5 and f"md5:{md5}", page=PAGE)


ANNOTATIONS_MD5 = "b407c6086d669747186bd1d764ff9dbc"
ORIGINAL = (
    _file("cars_annos.mat", ANNOTATIONS_MD5),
    _file("car_ims.tgz", "d5c8f0aa497503f355e17dc7886c3f14"),
)
CLASSIFICATION = (
    _file("cars_test_annos_withlabels.mat", "b0a2b23655a3edd16d84508592a98d10"),
    _file(
        "car_devkit.tgz",
        "c3b158d763b6e2245038c8ad08e45376",
        "https://github.com/pytorch/vision/files/11644847/car_devkit.tgz",
    ),
    _file("cars_train.tgz", "065e5b463ae28d29e77c1b4b166cfe61"),
    _file("cars_test.tgz", "4ce7ebf6a94d07f1952d94dd34c4d501"),
)
KAGGLE = "stanford-car-dataset-by-classes-folder"
REPACKED = (  # no digests: the counts and the two images below tell
    _file("CARS196.zip", url="http://ftp.cs.stanford.edu/cs/cvgl/CARS196.zip"),
    _file(
        "CARS.zip",
        url="https://vision.in.tum.de/webshare/u/seidensc/intra_batch_connections/CARS.zip",
    ),
    _file(f"{KAGGLE}.zip", url=f"https://www.kaggle.com/api/v1/datasets/download/jutrera/{KAGGLE}"),
    _file("stanford-cars-by-classes-folder.zip"),
    _file("archive.zip")._replace(own_folder=True),
)
PACKINGS = [ORIGINAL, CLASSIFICATION, *((file,) for file in REPACKED)]
LAST_TRAIN_CLASS = 98
EXPECTED = Expected({"train": 8_054, "test": 8_131}, {"train": 98, "test": 98})
ORIGINAL_IMAGES = {  # MD5 of two of the original files, whatever a packing calls them
    "000001.jpg": "2d44a28f071aeaac9c0802fddcde452e",
    "016185.jpg": "bab296d5e4b2290d024920bf4dc23d07",
}


def fetch(out: Path, source: str, downloads: Downloads) -> dict[str, Any]:
    """Index Cars196 into the raw folder `out`; the first packing that is right is used.

    Classes have the same names and splits in every packing: "001.AM_General_Hummer_SUV_2000".

    Returns:
        What `out/source.json` says.

    Raises:
        UserError: no packing can be had that is whole and the data set.
    """
    return use_packing(
        downloads, NAME, PACKINGS, PAGE, lambda *packing: _index(out, source, *packing)
    )


def _index(out: Path, source: str, number: int, paths: list[Path]) -> dict[str, Any]:
    with atomic_folder(out, RAW) as raw:
        if PACKINGS[number] is ORIGINAL:
            archives, images = _original(paths, raw)
        elif PACKINGS[number] is CLASSIFICATION:
            archives, images = _classification(paths, raw)
        else:
            archives, images = _repacked(paths[0], raw)
        check_counts(images, EXPECTED, " with ".join(str(archive.path) for archive in archives))
        notes = notes_on(archives, images)
        if PACKINGS[number] not in (ORIGINAL, CLASSIFICATION):
            notes["original_images"] = _original_images(archives[0])
        refused = [entry for archive in archives for entry in archive.refused]
        return write_raw(raw, out.name, source, images, refused=refused, notes=notes)


def _original(paths: list[Path], raw: Path) -> tuple[list[Archive], list[ImageFile]]:
    annotations, ims = paths
    archive = Archive(ims, raw)
    labels = _labels(annotations.read_bytes(), "relative_im_path")
    return [archive], archive.images(_entries(labels), annotations.name)


def _classification(paths: list[Path], raw: Path) -> tuple[list[Archive], list[ImageFile]]:
    test_labels, devkit, train, test = paths
    with TemporaryDirectory() as scratch:
        train_labels = Archive(devkit, Path(scratch)).read("devkit/cars_train_annos.mat")
    archives, images = [], []
    for path, mat in ((train, train_labels), (test, test_labels.read_bytes())):
        folder = path.name.partition(".")[0]
        archive = Archive(path, raw, folder)
        labels = [(f"{folder}/{name}", class_id) for name, class_id in _labels(mat, "fname")]
        archives.append(archive)
        images += archive.images(_entries(labels), f"the list of {folder}")
    return archives, images


def _repacked(path: Path, raw: Path) -> tuple[list[Archive], list[ImageFile]]:
    """By cars_annos.mat where the archive's images are those of it, or else by their folders."""
    archive = Archive(path, raw)
    for name in sorted(archive.files):
        if PurePosixPath(name).name != "cars_annos.mat":
            continue
        mat = archive.read(name)
        # No other one is parsed: scipy's reader, given damaged data, can end the whole process.
        if _md5(mat) == ANNOTATIONS_MD5:
            root = name.removesuffix("cars_annos.mat")
            labels = _labels(mat, "relative_im_path")
            if root + labels[0][0] in archive.files:
                return [archive], archive.images(_entries(labels, root), f"{path}'s {name}")
    return [archive], archive.images(_by_folder(archive), str(path))


def _labels(mat: bytes, path_field: str) -> list[tuple[str, int]]:
    """(image, class id) of each annotation of a .mat file whose digest was found right."""
    annotations = np.atleast_1d(loadmat(io.BytesIO(mat), squeeze_me=True)["annotations"])
    return [(str(a[path_field]), int(a["class"])) for a in annotations]


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _entries(labels: list[tuple[str, int]], root: str = "") -> Iterator[Entry]:
    for name, class_id in labels:
        split = "train" if class_id <= LAST_TRAIN_CLASS else "test"
        yield Entry(root + name, name, CLASSES[class_id - 1], split)


def _by_folder(archive: Archive) -> list[Entry]:
    """The images whose folder is named after a class, or numbered as all of them are."""
    folders = {
        name: PurePosixPath(name).parent.name
        for name in archive.files
        if ending(name) in IMAGE_ENDINGS
    }
    known = {_plain(name.partition(".")[2]): number for number, name in enumerate(CLASSES, 1)}
    numbers = {int(folder) for folder in folders.values() if folder.isdecimal()}
    if numbers in (set(range(196)), set(range(1, 197))):
        known |= {f"{n:{pad}}": n - min(numbers) + 1 for n in numbers for pad in ("", "03", "04")}
    ids = {
        name: class_id
        for name, folder in folders.items()
        if (class_id := known.get(folder) or known.get(_plain(folder)))
    }
    if not ids:
        raise UserError(
            f"{archive.path} has no official cars_annos.mat that fits its images and no folder "
            f"named after a class, like {CLASSES[0].partition('.')[2].replace('_', ' ')!r}: {ANEW}."
        )
    return list(_entries(list(ids.items())))


def _plain(name: str) -> str:
    """A class's name without the number before it, in the letters and digits that all share."""
    return re.sub(r"[^a-z0-9]", "", re.sub(r"^\d+[._ -]+", "", name.lower()))


def _original_images(archive: Archive) -> str:
    """How many of two known files are in a repack, which tells whether its images are unchanged.

    Raises:
        UserError: a file of the original name has other bytes.
    """
    names = {digest: name for name, digest in ORIGINAL_IMAGES.items()}
    found: set[str] = set()
    for path in archive.files:
        if ending(path) not in IMAGE_ENDINGS:
            continue
        digest = _md5(archive.read(path))
        expected = ORIGINAL_IMAGES.get(PurePosixPath(path).name)
        if expected not in (None, digest):
            raise UserError(
                f"{path} in {archive.path} is not the official file: it has md5:{digest}, and the "
                f"official one md5:{expected}; {ANEW}."
            )
        found |= {names[digest]} if digest in names else set()
    text = f"{len(found)} of {len(names)} known files found"
    if len(found) < len(names):
        text += ": the images were encoded again, so results may differ from published ones"
        print(f"{archive.path}: {text}")
    return text
