"""In-Shop Clothes Retrieval of DeepFashion: 7,982 items, queries that search a gallery.

Sources: Liu et al. (2016) and the benchmark's own list for the counts. The images are given on
request, so there is no address to download them from, and no digest is published.
"""

from collections import Counter
from pathlib import Path
from typing import Any

from rhs.datasets.download.downloads import Downloads, RemoteFile
from rhs.datasets.published import (
    ANEW,
    Archive,
    Entry,
    Expected,
    check_counts,
    first_packing,
    notes_on,
    rows_of,
)
from rhs.datasets.raw_folder import write_raw
from rhs.errors import UserError
from rhs.storage.atomic import atomic_folder
from rhs.storage.outputs import RAW

NAME = "inshop"
PAGE = "http://mmlab.ie.cuhk.edu.hk/projects/DeepFashion/InShopRetrieval.html"
IMAGES = RemoteFile("img.zip", (), None, page=PAGE)
LIST = RemoteFile("list_eval_partition.txt", (), None, page=PAGE)
COLUMNS = ("image_name", "item_id", "evaluation_status")
SPLITS = ("train", "query", "gallery")
EXPECTED = Expected(
    {"train": 25_882, "query": 14_218, "gallery": 12_612}, {"train": 3_997, "test": 3_985}
)


def fetch(out: Path, source: str, downloads: Downloads) -> dict[str, Any]:
    """Index In-Shop Clothes Retrieval into the raw folder `out`.

    A class is an item: its id, whatever the kind of clothes its images lie under.

    Returns:
        What `out/source.json` says.

    Raises:
        UserError: the files were not put there, are damaged or are not the official ones.
    """
    _, (path, list_path) = first_packing(downloads, NAME, [(IMAGES, LIST)], PAGE)
    listed = _listed(list_path)
    with atomic_folder(out, RAW) as raw:
        archive = Archive(path, raw)
        root = _root(archive, *(name for name, _, _ in listed[:1]))
        entries = [Entry(root + name, name, item, split) for name, item, split in listed]
        images = archive.images(entries, LIST.name)
        check_counts(images, EXPECTED, f"{path} with {LIST.name}")
        notes = notes_on([archive], images) | {"items_of_several_kinds": _several_kinds(listed)}
        return write_raw(raw, out.name, source, images, refused=archive.refused, notes=notes)


def _listed(path: Path) -> list[tuple[str, str, str]]:
    """(path below img/, item, split) of each row of the list, whose first line counts them."""
    text = path.read_bytes()
    listed = []
    for name, item, split in rows_of(text, COLUMNS, str(path), header=2):
        if split not in SPLITS:
            raise UserError(
                f"{path} gives {name} the evaluation_status {split!r}; accepted: "
                f"{', '.join(SPLITS)}."
            )
        listed.append((name.removeprefix("img/"), item, split))
    counted = text.split(b"\n", 1)[0].strip().decode("ascii", "replace")
    if counted != str(len(listed)):
        raise UserError(f"{path} counts {counted[:20]!r} images and lists {len(listed)}: {ANEW}.")
    return listed


def _root(archive: Archive, name: str = "") -> str:
    """What stands before an image's name in the archive: "img/", more than that, or nothing."""
    paths = (path for path in archive.files if f"/{path}".endswith(f"/{name}"))
    return next(paths, f"img/{name}").removesuffix(name)


def _several_kinds(listed: list[tuple[str, str, str]]) -> int:
    kinds = {(item, name.rpartition(f"/{item}/")[0]) for name, item, _ in listed}
    return sum(n > 1 for n in Counter(item for item, _ in kinds).values())
