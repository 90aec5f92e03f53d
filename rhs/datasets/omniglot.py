"""Omniglot: 1,623 handwritten characters of 50 alphabets, 20 drawings each.

Background characters train and evaluation characters test (Lake et al., 2015). Sources: addresses
and MD5 as in torchvision (omniglot.py); the other packing is the same images with one folder per
character and its own SHA-256.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rhs.datasets.download.downloads import Downloads, RemoteFile
from rhs.datasets.published import Archive, Entry, Expected, check_counts, first_packing, notes_on
from rhs.datasets.raw_folder import write_raw
from rhs.storage.atomic import atomic_folder
from rhs.storage.outputs import RAW

NAME = "omniglot"
PAGE = "https://github.com/brendenlake/omniglot"
BASE = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python"
SETS = {"images_background": "train", "images_evaluation": "test"}
ZIPS = (
    RemoteFile(
        "images_background.zip",
        (f"{BASE}/images_background.zip",),
        "md5:68d2efa1b9178cc56df9314c21c6e718",
        page=PAGE,
    ),
    RemoteFile(
        "images_evaluation.zip",
        (f"{BASE}/images_evaluation.zip",),
        "md5:6b91aef0f799c5bb55b94e3f2daec811",
        page=PAGE,
    ),
)
TAR = RemoteFile(
    "omniglot.tar.gz",
    (),
    "sha256:bd67ee73f554cebdca1f077ce3ee32faa95c6d0b4c1abcfa6562bd235643d66a",
    page=PAGE,
)
EXPECTED = Expected({"train": 19_280, "test": 13_180}, {"train": 964, "test": 659})
# images_background/Malay_(Jawi_-_Arabic)/character01/0001_01.png, or in the other packing
# images_background/Malay_Jawi_Arabic__character01/0001_01.png
MEMBER = re.compile(r"(images_\w+)/([^/]+?)(?:/|__)(character\d+)/([^/]+\.png)")


def fetch(out: Path, source: str, downloads: Downloads) -> dict[str, Any]:
    """Index Omniglot into the raw folder `out`.

    A class is "Malay_Jawi_Arabic/character01": the alphabet in letters, digits and underscores,
    alike in both packings, so that `dataset.coarse` can group by alphabet.

    Returns:
        What `out/source.json` says.

    Raises:
        UserError: no packing can be had, or one is damaged or not the official one.
    """
    _, paths = first_packing(downloads, NAME, [ZIPS, (TAR,)], PAGE)
    with atomic_folder(out, RAW) as raw:
        archives = [Archive(p, raw, p.name.partition(".")[0]) for p in paths]
        images = [i for a in archives for i in a.images(_entries(a), "the data set")]
        check_counts(images, EXPECTED, " with ".join(map(str, paths)))
        refused = [entry for archive in archives for entry in archive.refused]
        notes = notes_on(archives, images)
        return write_raw(raw, out.name, source, images, refused=refused, notes=notes)


def _entries(archive: Archive) -> Iterator[Entry]:
    for path in archive.files:
        member = MEMBER.fullmatch(path)
        if member and member[1] in SETS:
            alphabet = re.sub(r"[^A-Za-z0-9]+", "_", member[2]).strip("_")
            class_name = f"{alphabet}/{member[3]}"
            yield Entry(path, f"{member[1]}/{class_name}/{member[4]}", class_name, SETS[member[1]])
