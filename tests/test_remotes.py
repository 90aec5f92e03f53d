"""Shards travel: `dvc push` here, `dvc pull` in another clone, which trains without fetching."""

import json
import os
import shutil
import sys
from pathlib import Path

import boto3
import pytest
from cloned_project import DVC, GIT, run
from moto.server import ThreadedMotoServer

from rhs.data.shards import load_manifest

SHARDS = Path("data/shards/folder")


@pytest.fixture
def other(whole_run, tmp_path) -> Path:
    """A clone of the project as the first one committed it: lock file, but no data."""
    first, folder = whole_run[0], tmp_path / "other"
    run([*GIT, "clone", "-q", str(first), str(folder)], tmp_path)
    for name in ("dvc.lock", "params.yaml"):
        shutil.copy(first / name, folder / name)
    assert not (folder / "data").exists()
    return folder


def travel(first: Path, other: Path, *commands: list[str]) -> None:
    """Make the same remote known to both, push from the first, pull into the other."""
    for folder in (first, other):
        run([*DVC, "remote", "add", "--force", "-d", "store", *commands[0]], folder)
        for command in commands[1:]:
            run([*DVC, "remote", "modify", "store", *command], folder)
    run([*DVC, "push", "preprocess"], first)
    run([*DVC, "pull", "preprocess"], other)


def same_shards(first: Path, other: Path) -> bool:
    files = sorted(p.name for p in (first / SHARDS).iterdir())
    assert sorted(p.name for p in (other / SHARDS).iterdir()) == files
    return all(
        (first / SHARDS / f).read_bytes() == (other / SHARDS / f).read_bytes() for f in files
    )


def test_through_a_folder(whole_run, other, tmp_path):
    first = whole_run[0]
    travel(first, other, [str(tmp_path / "store")])
    assert same_shards(first, other)
    assert not (other / "data/raw").exists()


def test_through_an_s3_compatible_store_and_then_training(whole_run, other, monkeypatch):
    first = whole_run[0]
    for name, value in (("ACCESS_KEY_ID", "someone"), ("SECRET_ACCESS_KEY", "secret")):
        monkeypatch.setitem(os.environ, f"AWS_{name}", value)
    monkeypatch.setitem(os.environ, "AWS_DEFAULT_REGION", "us-east-1")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        address = "http://{}:{}".format(*server.get_host_and_port())
        store = boto3.client("s3", endpoint_url=address)
        store.create_bucket(Bucket="shards")
        travel(first, other, ["s3://shards/rhs"], ["endpointurl", address])
        assert store.list_objects_v2(Bucket="shards")["KeyCount"] > len(
            load_manifest(first / SHARDS)["shards"]
        )
    finally:
        server.stop()
    assert same_shards(first, other)
    run([*DVC, "repro", "--single-item", "train"], other)
    assert not (other / "data/raw").exists()
    weights = "models/folder/model.safetensors"
    assert (other / weights).read_bytes() == (first / weights).read_bytes()
    assert "train" not in json.loads(run([*DVC, "status", "--json", "train"], other).stdout)
    assert (
        run([sys.executable, "-m", "pipelines.train"], other).stdout.count("already trained") == 1
    )
