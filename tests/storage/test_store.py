"""Where bytes are kept: the same promises of a folder and of object stores."""

import os
import pickle
import threading
import uuid
from pathlib import Path

import boto3
import fsspec
import pytest
from s3_server import BUCKET, s3_server

from rhs.errors import UserError
from rhs.storage.object_store import ObjectStore
from rhs.storage.store import FolderStore, is_url, open_store


@pytest.fixture(scope="module")
def s3():
    with s3_server() as address:
        yield address


@pytest.fixture(params=["folder", "memory", "s3"])
def store(request, tmp_path):
    """An empty store of each kind."""
    if request.param == "folder":
        return open_store(tmp_path / "store")
    if request.param == "s3":
        request.getfixturevalue("s3")
    return open_store(f"{request.param}://bucket/{uuid.uuid4().hex}/")


def objects(store: ObjectStore) -> set[str]:
    """Everything below a store in S3, asked of another client."""
    bucket, _, prefix = store.location.removeprefix("s3://").partition("/")
    listed = boto3.client("s3").list_objects_v2(Bucket=bucket, Prefix=f"{prefix}/")
    return {entry["Key"].removeprefix(f"{prefix}/") for entry in listed.get("Contents", [])}


def test_what_is_written_is_read(store):
    assert store.names() == []
    for name, data in (("b", b"first"), ("a.json", b""), ("b", bytes(range(256)))):
        store.write(name, data)
        assert store.read(name) == data
    assert store.names() == ["a.json", "b"]
    for _ in range(2):
        store.delete("b")
        assert store.names() == ["a.json"]
    with pytest.raises(FileNotFoundError, match="b"):
        store.read("b")


def test_a_store_below(store):
    below = open_store(f"{store.location}/below")
    assert below.names() == []
    store.write("name", b"above")
    below.write("name", b"below")
    assert (store.read("name"), below.read("name")) == (b"above", b"below")
    assert (store.names(), below.names()) == (["name"], ["name"])
    below.delete("name")
    assert (store.names(), below.names()) == (["name"], [])


def test_names_of_others_are_seen_at_once(store):
    other = pickle.loads(pickle.dumps(store))
    for name in "abc":
        other.write(name, b"")
        assert name in store.names()
    other.write("a", b"new")
    assert store.read("a") == b"new"
    other.delete("a")
    assert store.names() == ["b", "c"]


def test_hidden_names_are_no_names(store):
    store.write(".hidden", b"")
    store.write("seen", b"")
    assert store.names() == ["seen"]
    assert store.read(".hidden") == b""


def test_from_other_threads_and_after_a_fork(store):
    store.write("parent", b"1")
    threads = [threading.Thread(target=store.write, args=(str(i), b"2")) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.names() == ["0", "1", "2", "3", "parent"]
    if "memory:" in store.location:
        return  # a child's memory is its own
    child = os.fork()
    if child == 0:
        try:
            store.write("child", store.read("parent"))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert store.read("child") == b"1"


def test_a_failed_write_leaves_the_older_bytes(tmp_path, monkeypatch):
    folder = FolderStore(tmp_path)
    folder.write("name", b"old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        folder.write("name", b"new")
    assert folder.read("name") == b"old"
    assert os.listdir(tmp_path) == ["name"]


def test_files_travel_without_being_read_whole(s3, tmp_path):
    store = open_store(f"{BUCKET}/{uuid.uuid4().hex}")
    data = os.urandom(20_000_000)  # more than one block
    (tmp_path / "up").write_bytes(data)
    went, came = [], []
    store.put(tmp_path / "up", "file", went.append)
    assert store.size("file") == len(data) == sum(went)
    store.fetch("file", tmp_path / "down", came.append)
    assert (tmp_path / "down").read_bytes() == data
    assert sum(came) == len(data)
    assert len(came) > 1
    assert store.size("other") is None
    with pytest.raises(FileNotFoundError, match=r"bucket/.*/other is not there"):
        store.fetch("other", tmp_path / "other", came.append)


def test_what_unfinished_writes_left_is_swept(tmp_path):
    FolderStore(tmp_path).write("name", b"whole")
    (tmp_path / ".other.1234.tmp").write_bytes(b"ha")
    (tmp_path / ".mine.tmp").write_bytes(b"no store's")
    FolderStore(tmp_path).delete_leftovers()
    assert sorted(os.listdir(tmp_path)) == [".mine.tmp", "name"]


def test_uploads_that_never_ended_are_swept(s3, monkeypatch):
    store, client = ObjectStore(f"{BUCKET}/{uuid.uuid4().hex}"), boto3.client("s3")
    mine = store.location.removeprefix(f"{BUCKET}/")
    for key in (f"{mine}/large", f"{mine}-of-others/large"):
        client.create_multipart_upload(Bucket="bucket", Key=key)
    store.delete_leftovers()
    left = client.list_multipart_uploads(Bucket="bucket")["Uploads"]
    assert [upload["Key"] for upload in left] == [f"{mine}-of-others/large"]

    def forbidden(*_, **__):
        raise PermissionError("Access Denied")

    monkeypatch.setattr(store._files(), "call_s3", forbidden)
    store.delete_leftovers()


def test_a_check_leaves_nothing(s3):
    store = ObjectStore(f"{BUCKET}/{uuid.uuid4().hex}")
    store.check()
    assert objects(store) == set()
    store.write("name", b"")
    open_store(f"{store.location}/below").write("name", b"")
    assert objects(store) == {"name", "below/name"}


def refused(url: str) -> str:
    with pytest.raises(UserError) as caught:
        ObjectStore(url).check()
    said = str(caught.value)
    assert "\n" not in said
    return said


def test_a_bucket_that_is_not_there(s3):
    said = refused("s3://no-such-bucket/rhs")
    assert "s3://no-such-bucket/rhs cannot be used" in said
    assert "bucket does not exist" in said


def test_without_keys(s3, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    assert "AWS_ACCESS_KEY_ID" in refused(BUCKET)


def test_keys_that_are_not_permitted(s3, monkeypatch):
    store = ObjectStore(BUCKET)

    def forbidden(*_):
        raise PermissionError("Access Denied")

    monkeypatch.setattr(store._files(), "pipe_file", forbidden)
    with pytest.raises(
        PermissionError, match=r"s3://bucket/name is not permitted \(Access Denied\)"
    ):
        store.write("name", b"")
    with pytest.raises(UserError, match=r"cannot be used \(Access Denied\)"):
        store.check()


def test_a_server_that_is_not_there(s3, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    store = ObjectStore(BUCKET)
    with pytest.raises(OSError, match=r"s3://bucket/name failed \(.*127.0.0.1:9") as caught:
        store.read("name")
    assert not isinstance(caught.value, FileNotFoundError)
    with pytest.raises(OSError, match=r"s3://bucket failed"):
        store.names()  # and never []: a run would start from its beginning


def test_no_passwords_in_urls():
    for url in ("s3://k:word@b", "s3://b?s=word", "s3://b#word", "s3://word:/@b", "s3://k:[word@b"):
        said = refused(url)
        assert "word" not in said
        assert "AWS_SECRET_ACCESS_KEY" in said


@pytest.mark.parametrize("url", ["ftp://host/folder", "s3://", "s3:///x", "nope://x"])
def test_other_urls(url):
    said = refused(url)
    assert repr(url) in said
    assert "s3://bucket/path" in said


def test_a_missing_package(monkeypatch):
    def missing(protocol):
        raise ImportError("Install it")

    monkeypatch.setattr(fsspec, "get_filesystem_class", missing)
    assert "needs the package s3fs" in refused("s3://bucket")
    assert "pip install '.[s3]'" in refused("s3://bucket")
    assert "pip install gcsfs" in refused("gs://bucket")


def test_folders_and_urls(tmp_path):
    assert not is_url(None)
    for folder in (tmp_path, str(tmp_path), tmp_path.as_uri()):
        assert not is_url(folder)
        store = open_store(folder)
        assert isinstance(store, FolderStore)
        assert store.path == tmp_path
        assert store.location == str(tmp_path)
    assert open_store("file:///a%20b").path == Path("/a b")
    assert is_url(BUCKET)
    assert open_store(f"{BUCKET}/x//").location == f"{BUCKET}/x"
