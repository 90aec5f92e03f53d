"""A model on its way to an object store and from there to another machine."""

import uuid
from pathlib import Path

import pytest
from tiny_project import changed, small_params

from rhs.errors import UserError
from rhs.models import remote_models
from rhs.models.remote_models import find_model, publish_model
from rhs.storage.object_store import ObjectStore
from rhs.storage.store import open_store


@pytest.fixture
def storage(tmp_path, monkeypatch) -> str:
    """The URL of an empty storage; the work is done in a folder of its own."""
    machine = tmp_path / "machine"
    machine.mkdir()
    monkeypatch.chdir(machine)
    monkeypatch.setattr(remote_models, "PAUSE", 0.01)
    return f"memory://{uuid.uuid4().hex}/rhs"


def model(tmp_path: Path, run: str) -> Path:
    folder = tmp_path / run / "tiny"
    folder.mkdir(parents=True)
    for name in ("config.json", "history.csv", "model.safetensors"):
        (folder / name).write_text(f"{name} of {run}")
    return folder


def found(storage: str | None) -> dict[str, str]:
    params = changed(small_params(), dataset={"name": "tiny"}, cluster={"storage": storage})
    return {path.name: path.read_text() for path in find_model(params).iterdir()}


def content(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_there_and_back(storage, tmp_path, capsys):
    with pytest.raises(UserError, match="models/tiny not found: run the train stage first"):
        found(storage)
    for run in ("first", "second"):
        made = model(tmp_path, run)
        publish_model(made, storage)
        assert f"model put to {storage}/models/tiny" in capsys.readouterr().out
        assert found(storage) == content(made)
    assert found(None) == content(made)  # it stays


def test_what_else_lies_there_is_no_part_of_it(storage, tmp_path):
    made = model(tmp_path, "first")
    publish_model(made, storage)
    open_store(f"{storage}/models/tiny").write("lease.json", b"?")
    assert found(storage) == content(made)


def test_files_of_two_runs_are_no_model(storage, tmp_path):
    """However two runs that end at once take turns to write."""
    first, second = model(tmp_path, "first"), model(tmp_path, "second")
    store = open_store(f"{storage}/models/tiny")
    for name in ("config.json", "history.csv", "model.safetensors"):
        publish_model(first, storage)
        store.write(name, (second / name).read_bytes())
        with pytest.raises(UserError, match=r"tiny are not of one model.*run the train stage"):
            found(storage)
        assert not Path("models/tiny").exists()
    publish_model(first, storage)
    store.delete("model.safetensors")
    with pytest.raises(UserError, match="are not of one model"):
        found(storage)
    publish_model(second, storage)
    assert found(storage) == content(second)


def test_one_that_is_being_replaced_is_waited_for(storage, tmp_path, monkeypatch):
    first, second = model(tmp_path, "first"), model(tmp_path, "second")
    publish_model(first, storage)
    read, replaced = ObjectStore.read, []

    def replacing(store, name):
        data = read(store, name)
        if name == "config.json" and not replaced:  # the reader has the first one's config now
            replaced.append(name)
            publish_model(second, storage)
        return data

    monkeypatch.setattr(ObjectStore, "read", replacing)
    assert found(storage) == content(second)
    assert replaced


def test_a_store_that_is_away(storage, tmp_path, monkeypatch):
    made = model(tmp_path, "first")

    def away(*_):
        raise OSError("the store is away")

    with monkeypatch.context() as patch:
        patch.setattr(ObjectStore, "write", away)
        with pytest.raises(UserError, match=r"could not be put to memory.*it is in .*first/tiny"):
            publish_model(made, storage)
    publish_model(made, storage)
    monkeypatch.setattr(ObjectStore, "read", away)
    with pytest.raises(UserError, match=r"cannot be read \(the store is away\)"):
        found(storage)
