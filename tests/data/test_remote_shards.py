"""Shards on their way to an object store and from there to a node."""

import errno
import hashlib
import json
import shutil
import uuid
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import pytest
from s3_server import BUCKET, s3_server
from tiny_project import changed, small_params

import pipelines.preprocess
from rhs.data.remote_shards import find_shards, local_shards, publish_shards
from rhs.data.shards import ShardedImages, load_manifest
from rhs.errors import UserError
from rhs.storage.object_store import ObjectStore
from rhs.storage.store import open_store


@pytest.fixture(scope="module")
def s3():
    with s3_server() as address:
        yield address


@pytest.fixture
def storage(s3) -> str:
    """The URL of an empty storage."""
    return f"{BUCKET}/{uuid.uuid4().hex}"


@pytest.fixture
def shards(tiny_shards, tmp_path) -> Path:
    """Shards that may be changed."""
    return Path(shutil.copytree(tiny_shards, tmp_path / "shards"))


@pytest.fixture
def cache(tmp_path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def transfers(monkeypatch) -> list[str]:
    """What has been fetched and put so far."""
    done = []
    fetch, put = ObjectStore.fetch, ObjectStore.put

    def counted_fetch(store, name, to, came):
        done.append(f"fetch {name}")
        fetch(store, name, to, came)

    def counted_put(store, path, name, went):
        done.append(f"put {name}")
        put(store, path, name, went)

    monkeypatch.setattr(ObjectStore, "fetch", counted_fetch)
    monkeypatch.setattr(ObjectStore, "put", counted_put)
    return done


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def files_of(folder: Path) -> list[str]:
    return [shard["file"] for shard in load_manifest(folder)["shards"]]


@lru_cache
def at(storage: str):
    """Where the shards of "tiny" are."""
    return open_store(f"{storage}/data/shards/tiny")


def change(folder: Path, file: str, data: bytes) -> None:
    """Other bytes in a shard, and a manifest that knows."""
    (folder / file).write_bytes(data)
    manifest = load_manifest(folder)
    for shard in manifest["shards"]:
        if shard["file"] == file:
            shard["sha256"] = hashlib.sha256(data).hexdigest()
    manifest["digest"] = uuid.uuid4().hex
    (folder / "manifest.json").write_text(json.dumps(manifest))


def refusal(storage: str, cache: Path) -> str:
    with pytest.raises(UserError) as caught:
        local_shards(storage, "tiny", cache)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_there_and_back(shards, storage, cache, transfers):
    assert publish_shards(shards, storage, "tiny") == len(files_of(shards)) == 3
    assert at(storage).names() == sorted([*files_of(shards), "manifest.json"])
    copy = local_shards(storage, "tiny", cache)
    assert copy == cache / f"tiny-{load_manifest(shards)['digest'][:12]}"
    assert content(copy) == content(shards)
    assert len(ShardedImages(copy, "train")) == 32
    before, made = list(transfers), (copy / "manifest.json").stat()
    assert local_shards(storage + "/", "tiny", cache) == copy
    assert transfers == before
    assert (copy / "manifest.json").stat() == made


def test_shards_that_another_tool_put_there(shards, storage, cache):
    for name, data in content(shards).items():
        at(storage).write(name, data)
    assert content(local_shards(storage, "tiny", cache)) == content(shards)


def test_only_what_is_new_is_put(shards, storage, cache, transfers):
    publish_shards(shards, storage, "tiny")
    older = local_shards(storage, "tiny", cache)
    transfers.clear()
    assert publish_shards(shards, storage, "tiny") == 0
    first, second, _ = files_of(shards)
    at(storage).write(second, b"cut short")
    data = (shards / first).read_bytes()
    change(shards, first, data[::-1])  # of the same size
    assert publish_shards(shards, storage, "tiny") == 2
    assert transfers == [f"put {first}", f"put {second}"]
    newer = local_shards(storage, "tiny", cache)
    assert content(newer) == content(shards)
    assert (older / first).read_bytes() == data


def test_shards_that_are_no_more_go(shards, storage):
    publish_shards(shards, storage, "tiny")
    manifest = load_manifest(shards)
    gone = manifest["shards"].pop()["file"]
    (shards / "manifest.json").write_text(json.dumps(manifest))
    assert publish_shards(shards, storage, "tiny") == 0
    assert gone not in at(storage).names()
    assert json.loads(at(storage).read("manifest.json")) == manifest


def test_putting_that_was_cut_short_is_no_manifest(shards, storage, cache, monkeypatch):
    publish_shards(shards, storage, "tiny")
    for file in files_of(shards):
        change(shards, file, file.encode())
    put = ObjectStore.put

    def second_fails(store, path, name, went):
        if name == files_of(shards)[1]:
            raise OSError("the store is away")
        put(store, path, name, went)

    with monkeypatch.context() as patch:
        patch.setattr(ObjectStore, "put", second_fails)
        with pytest.raises(UserError, match=r"could not be put to s3.*the store is away"):
            publish_shards(shards, storage, "tiny")
    assert "manifest.json is not there: run `python -m pipelines.preprocess`" in refusal(
        storage, cache
    )
    assert publish_shards(shards, storage, "tiny") == 3
    assert content(local_shards(storage, "tiny", cache)) == content(shards)


def test_wrong_bytes_are_never_used_and_right_ones_stay(shards, storage, cache, transfers):
    publish_shards(shards, storage, "tiny")
    first, second, third = files_of(shards)
    right = at(storage).read(second)
    at(storage).write(second, right[:-1] + b"?")
    assert f"{second} is not the file of its manifest" in refusal(storage, cache)
    folder = next(path for path in cache.iterdir() if path.is_dir())
    assert [path.name for path in folder.iterdir()] == [first]
    at(storage).write(second, right)
    transfers.clear()
    assert content(local_shards(storage, "tiny", cache)) == content(shards)
    assert transfers == [f"fetch {second}", f"fetch {third}"]


def test_one_process_of_a_machine_fetches(shards, storage, cache, transfers):
    publish_shards(shards, storage, "tiny")
    transfers.clear()
    with ThreadPoolExecutor(3) as pool:
        copies = list(pool.map(lambda _: local_shards(storage, "tiny", cache), range(3)))
    assert len(set(copies)) == 1
    assert sorted(transfers) == sorted(f"fetch {file}" for file in files_of(shards))


def test_a_full_disk_tells_itself(shards, storage, small_disk):
    file = files_of(shards)[0]
    change(shards, file, bytes(2_000_000))
    publish_shards(shards, storage, "tiny")
    disk = small_disk("1m")
    with pytest.raises(OSError, match="No space left") as caught:
        local_shards(storage, "tiny", disk / "cache")
    assert caught.value.errno == errno.ENOSPC
    assert all(path.stat().st_size == 0 for path in disk.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    "manifest",
    [
        "no JSON",
        "[]",
        "{}",
        '{"digest": "0", "shards": [{"file": "a"}]}',
        '{"digest": "0", "shards": [{"file": "../a", "sha256": "0"}]}',
        '{"digest": "0", "shards": [{"file": "/tmp/a", "sha256": "0"}]}',
        '{"digest": "../../a", "shards": [{"file": "a", "sha256": "0"}]}',
    ],
)
def test_what_is_no_manifest(storage, cache, manifest):
    at(storage).write("manifest.json", manifest.encode())
    at(storage).write("a", b"")
    assert "manifest.json is no manifest of shards" in refusal(storage, cache)
    assert not cache.exists()


def test_a_store_that_is_away(shards, storage, cache, monkeypatch):
    publish_shards(shards, storage, "tiny")

    def away(*_):
        raise OSError("the store is away")

    monkeypatch.setattr(ObjectStore, "fetch", away)
    said = refusal(storage, cache)
    assert f"could not be fetched from {storage}/data/shards/tiny (the store is away)" in said


def test_a_cache_that_cannot_be_written(shards, storage, tmp_path):
    publish_shards(shards, storage, "tiny")
    assert "cluster.cache_folder" in refusal(storage, shards / "manifest.json")


def test_where_a_run_finds_its_shards(shards, storage, project, cache):
    cluster = {"storage": None, "cache_folder": str(cache)}
    params = changed(small_params(), dataset={"name": "tiny"}, cluster=cluster)
    assert find_shards(params) == Path("data/shards/tiny")
    publish_shards(shards, storage, "tiny")
    assert content(find_shards(params.with_cluster(storage=storage))) == content(shards)


def test_the_preprocess_stage_puts_them(shards, storage, stage_of, project, monkeypatch, capsys):
    made = shutil.copytree(shards, project / "data/shards/folder")
    for name in ("connect", "read_raw"):
        monkeypatch.setattr(pipelines.preprocess, name, lambda *_: None)
    manifest = load_manifest(made) | {"warnings": []}
    monkeypatch.setattr(pipelines.preprocess, "preprocess", lambda *_, **__: manifest)
    stage_of("preprocess")
    assert "put to" not in capsys.readouterr().out
    stage_of("preprocess", f"cluster.storage={storage}")
    assert f"preprocess: 3 of 3 shards put to {storage}\n" in capsys.readouterr().out
    assert content(local_shards(storage, "folder", project / "cache")) == content(shards)
