"""Shards on their way: from the machine that made them to an object store, and from there to nodes.

They are plain files under `<cluster.storage>/data/shards/<dataset>/`, as in a folder, the manifest
last; what else puts them there (`aws s3 cp --recursive`) does as well.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from rhs.config.settings import Params
from rhs.data.cache_lock import lock_cache
from rhs.data.shards import load_manifest
from rhs.errors import UserError, is_disk_full
from rhs.paths import project_folder
from rhs.storage.atomic import atomic_file
from rhs.storage.digest import file_digest
from rhs.storage.object_store import ObjectStore
from rhs.storage.store import FolderStore, is_url

MANIFEST = "manifest.json"


def find_shards(params: Params) -> Path:
    """The folder of the shards: this project's, or a local copy of those behind a URL.

    Raises:
        UserError: see `local_shards`.
    """
    name, cluster = params.dataset.name, params.cluster
    if is_url(cluster.storage):
        return local_shards(cluster.storage, name, project_folder() / cluster.cache_folder)
    return Path("data/shards", name)


def local_shards(storage: str, name: str, cache: Path) -> Path:
    """A local copy, complete and verified, of the shards of data set `name` in an object store.

    It is made in `cache` by one process of a machine, whom others wait for. Of a copy that was cut
    short, the shards that are there stay. A complete copy costs the reading of one manifest.

    Raises:
        UserError: no shards there, or not those of their manifest, or the store is away.
        OSError: the disk is full.
    """
    source = _shards(storage, name)
    with _told("fetched from", source):
        text, manifest = _manifest(source)
        if not manifest:
            raise UserError(
                f"{source.location}/{MANIFEST} is not there: run `python -m pipelines.preprocess` "
                f"with this cluster.storage, or copy data/shards/{name} there."
            )
        folder = cache / f"{name}-{manifest['digest'][:12]}"
        if _holds(folder, text):
            return folder
        with lock_cache(cache, folder.name, f"{folder.name}: another process is fetching it"):
            here = FolderStore(folder)
            here.delete_leftovers()
            _bring(source, manifest["shards"], folder)  # nothing, if another process just did
            here.write(MANIFEST, text)
    return folder


def publish_shards(folder: Path, storage: str, name: str) -> int:
    """Put the shards of `folder` into an object store, the manifest last; returns how many went.

    Shards that the manifest in the store tells to be there already are not put again.

    Raises:
        UserError: no shards here, or the store cannot be written.
    """
    manifest, target = load_manifest(folder), _shards(storage, name)
    with _told("put to", target):
        there = _sums(_manifest(target)[1])
        sizes = {file: (folder / file).stat().st_size for file in _sums(manifest)}
        new = [
            file
            for file, checksum in _sums(manifest).items()
            if there.get(file) != checksum or target.size(file) != sizes[file]
        ]
        if new:  # first: it would be the manifest of what is half replaced
            target.delete(MANIFEST)
        with _bar(f"put {name}", sum(sizes[file] for file in new)) as bar:
            for file in new:
                target.put(folder / file, file, bar.update)
        for file in set(there) - set(sizes):
            target.delete(file)
        target.write(MANIFEST, (folder / MANIFEST).read_bytes())
    return len(new)


def _shards(storage: str, name: str) -> ObjectStore:
    return ObjectStore(f"{storage.rstrip('/')}/data/shards/{name}")


def _manifest(store: ObjectStore) -> tuple[bytes, dict[str, Any]]:
    """The manifest of the shards in a store, as it is and parsed; empty where there is none."""
    try:
        text = store.read(MANIFEST)
    except FileNotFoundError:
        return b"", {}
    try:
        manifest = json.loads(text)
        names = [*_sums(manifest), manifest["digest"][:12]]
    except (ValueError, KeyError, TypeError, AttributeError):
        names = []
    # They become names of files here.
    if not names or any(not re.fullmatch(r"\w[\w.-]*", str(name)) for name in names):
        raise UserError(
            f"{store.location}/{MANIFEST} is no manifest of shards: delete it and run the "
            "preprocess stage again."
        )
    return text, manifest


def _sums(manifest: dict[str, Any]) -> dict[str, str]:
    """The checksum of each shard's file."""
    return {shard["file"]: shard["sha256"] for shard in manifest.get("shards", [])}


def _bring(source: ObjectStore, shards: list[dict[str, Any]], folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    missing = [shard for shard in shards if not (folder / shard["file"]).exists()]
    sizes = [source.size(shard["file"]) or 0 for shard in missing]
    with _bar(f"fetch {folder.name}", sum(sizes)) as bar:
        for shard in missing:
            with atomic_file(folder / shard["file"]) as partial:
                source.fetch(shard["file"], partial, bar.update)
                if file_digest(partial) != shard["sha256"]:
                    raise UserError(
                        f"{source.location}/{shard['file']} is not the file of its manifest: if it "
                        "is being replaced, wait; otherwise run the preprocess stage again."
                    )


def _holds(folder: Path, manifest: bytes) -> bool:
    path = folder / MANIFEST
    return path.exists() and path.read_bytes() == manifest


@contextmanager
def _told(verb: str, store: ObjectStore) -> Iterator[None]:
    """What goes wrong between here and the store is one sentence; a full disk tells itself."""
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise
        raise UserError(
            f"Shards could not be {verb} {store.location} ({error}): run again once it can be "
            "reached."
        ) from error


def _bar(what: str, total: int) -> tqdm:
    return tqdm(desc=what, total=total, unit="B", unit_scale=True, leave=False, disable=None)
