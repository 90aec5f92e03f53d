"""Trained models between this machine and the object store of `cluster.storage`."""

import hashlib
import json
import time
from pathlib import Path

from rhs.config.settings import Params
from rhs.errors import UserError
from rhs.storage.atomic import atomic_folder
from rhs.storage.outputs import MODEL
from rhs.storage.store import Store, is_url, open_store

INDEX = "sha256.json"  # {name: digest} of a model's files: which of them belong together
TRIES, PAUSE = 5, 2.0  # seconds: another model may be replacing the one that is read


def publish_model(folder: Path, storage: str) -> None:
    """Put a model's files into the object store, where it replaces an older one of its name.

    Raises:
        UserError: the store cannot be written.
    """
    store = _models(storage, folder.name)
    files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    try:
        for name, data in files.items():
            store.write(name, data)
        store.write(INDEX, json.dumps(_digests(files)).encode())  # last: what it names is there
    except OSError as error:
        raise UserError(
            f"The model could not be put to {store.location} ({error}): it is in {folder}; run "
            "again once the store can be reached."
        ) from error
    print(f"model put to {store.location}")


def find_model(params: Params) -> Path:
    """The folder of the trained model: this project's, else a copy of the one behind the URL.

    Raises:
        UserError: there is none, or the one behind the URL is not whole.
    """
    folder, storage = Path("models", params.dataset.name), params.cluster.storage
    if is_url(storage):
        store = _models(storage, folder.name)
        try:
            files = _read(store)
        except OSError as error:
            raise UserError(f"{store.location} cannot be read ({error}).") from error
        if files:
            with atomic_folder(folder, MODEL) as made:
                for name, data in files.items():
                    (made / name).write_bytes(data)
    if not folder.exists():
        raise UserError(f"{folder} not found: run the train stage first.")
    return folder


def _read(store: Store) -> dict[str, bytes]:
    """The files of one model, never of two that were put there at once; {} where there is none."""
    for more in reversed(range(TRIES)):
        if INDEX not in store.names():
            return {}
        digests = json.loads(store.read(INDEX))
        there = set(store.names())
        files = {name: store.read(name) for name in digests if name in there}
        if _digests(files) == digests:
            return files
        if more:
            time.sleep(PAUSE)
    raise UserError(
        f"The files in {store.location} are not of one model, as after two runs that ended at once "
        "or one that was stopped: run the train stage again."
    )


def _digests(files: dict[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}


def _models(storage: str, name: str) -> Store:
    return open_store(f"{storage.rstrip('/')}/models/{name}")
