"""Stanford Online Products: 22,634 things on sale in 12 kinds, the split of Oh Song et al. (2016).

Sources: URL and MD5 as in public loaders of the data set; the second address is that of
pytorch-metric-learning (sop.py), held to the same MD5; counts as in the paper and in
tensorflow_datasets.
"""

from pathlib import Path
from typing import Any

from rhs.datasets.download.downloads import Downloads, RemoteFile
from rhs.datasets.published import Archive, Entry, Expected, check_counts, notes_on, rows_of
from rhs.datasets.raw_folder import write_raw
from rhs.storage.atomic import atomic_folder
from rhs.storage.outputs import RAW

NAME = "sop"
ARCHIVE = RemoteFile(
    "Stanford_Online_Products.zip",
    (
        "http://ftp.cs.stanford.edu/cs/cvgl/Stanford_Online_Products.zip",
        "https://drive.usercontent.google.com/download?id=1TclrpQOF_ullUP99wk_gjGN8pKvtErG8"
        "&export=download&authuser=0&confirm=t",
    ),
    "md5:7f73d41a2f44250d4779881525aea32e",
    page="https://cvgl.stanford.edu/projects/lifted_struct/",
)
ROOT = "Stanford_Online_Products/"
COLUMNS = ("image_id", "class_id", "super_class_id", "path")
EXPECTED = Expected({"train": 59_551, "test": 60_502}, {"train": 11_318, "test": 11_316})


def fetch(out: Path, source: str, downloads: Downloads) -> dict[str, Any]:
    """Index Stanford Online Products into the raw folder `out`.

    A class is named after its kind and id, "bicycle/00001", so that `dataset.coarse` can group by
    kind. Ebay_train.txt and Ebay_test.txt are the split.

    Returns:
        What `out/source.json` says.

    Raises:
        UserError: the archive cannot be had, is damaged or is not the official one.
    """
    path = downloads.get(ARCHIVE, NAME)
    with atomic_folder(out, RAW) as raw:
        archive = Archive(path, raw)
        entries = [*_listed(archive, "train"), *_listed(archive, "test")]
        images = archive.images(entries, "Ebay_train.txt with Ebay_test.txt")
        check_counts(images, EXPECTED, str(path))
        notes = notes_on([archive], images)
        return write_raw(raw, out.name, source, images, refused=archive.refused, notes=notes)


def _listed(archive: Archive, split: str) -> list[Entry]:
    file = f"Ebay_{split}.txt"
    entries = []
    for row in rows_of(archive.read(ROOT + file), COLUMNS, f"{archive.path}'s {file}", header=1):
        _, class_id, _, name = row
        kind = name.partition("/")[0].removesuffix("_final")
        entries.append(Entry(ROOT + name, name, f"{kind}/{int(class_id):05d}", split))
    return entries
