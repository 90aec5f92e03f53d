"""Trained models between this machine and the object store of `cluster.storage`."""

from pathlib import Path

from omegaconf import DictConfig

from rhs.errors import UserError
from rhs.storage.atomic import whole_folder
from rhs.storage.store import Store, is_url, open_store

LAST = "config.json"  # of a model's files the one that says what the others are


def publish_model(folder: Path, storage: str) -> None:
    """Put a model's files into the object store, where it replaces an older one of its name.

    Raises:
        UserError: the store cannot be written.
    """
    store = _models(storage, folder.name)
    names = sorted(path.name for path in folder.iterdir())
    try:
        store.delete(LAST)  # first: what is half replaced is no model
        for name in sorted(names, key=lambda name: name == LAST):
            store.write(name, (folder / name).read_bytes())
    except OSError as error:
        raise UserError(
            f"The model could not be put to {store.location} ({error}): it is in {folder}; run "
            "again once the store can be reached."
        ) from error
    print(f"model put to {store.location}")


def find_model(params: DictConfig) -> Path:
    """The folder of the trained model: this project's, else a copy of the one behind the URL.

    Raises:
        UserError: there is none.
    """
    folder, storage = Path("models", params.dataset.name), params.cluster.storage
    if is_url(storage):
        store = _models(storage, folder.name)
        try:
            files = {name: store.read(name) for name in store.names()}
        except OSError as error:
            raise UserError(f"{store.location} cannot be read ({error}).") from error
        if LAST in files:
            with whole_folder(folder) as made:
                for name, data in files.items():
                    (made / name).write_bytes(data)
    if not folder.exists():
        raise UserError(f"{folder} not found: run the train stage first.")
    return folder


def _models(storage: str, name: str) -> Store:
    return open_store(f"{storage.rstrip('/')}/models/{name}")
