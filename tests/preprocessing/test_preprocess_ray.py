"""Preprocess through Ray: the same bytes however the work is cut, and processes that die."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from raw_images import make_raw, noise_image, one_piece

from rhs.data.shards import load_manifest
from rhs.datasets import folder
from rhs.errors import UserError
from rhs.preprocessing import preprocess as module
from rhs.preprocessing import ray_preprocessing
from rhs.preprocessing.preprocess import preprocess

CARS = Path(__file__).parents[3] / "shared" / "datasets" / "cars196-half.tar"


def test_through_ray_and_in_process_alike(ray_cluster, tmp_path, monkeypatch):
    raw = make_raw(tmp_path, {"b/bad.png": b"no image", "f/1.png": noise_image(501, mode="RGBA")})
    monkeypatch.setattr(ray_preprocessing, "BLOCK_ROWS", 4)  # eight tasks
    through_ray = preprocess(raw, tmp_path / "ray", rows_per_shard=4)
    monkeypatch.setattr(module, "prepare_on_ray", one_piece)
    assert preprocess(raw, tmp_path / "here", rows_per_shard=4) == through_ray
    for shard in through_ray["shards"]:
        here, ray = (tmp_path / f / shard["file"] for f in ("here", "ray"))
        assert here.read_bytes() == ray.read_bytes()


def test_a_process_that_dies_is_one_sentence(ray_cluster, tmp_path, monkeypatch):
    """Out of memory, here; where the process is killed, Ray says so in another error."""
    raw, prepare = make_raw(tmp_path), ray_preprocessing.prepare_rows

    def dying(rows, **how):
        if "c/2.png" in rows["name"].to_pylist():
            raise MemoryError
        yield from prepare(rows, **how)

    monkeypatch.setattr(ray_preprocessing, "prepare_rows", dying)
    monkeypatch.setattr(ray_preprocessing, "BLOCK_ROWS", 2)
    with pytest.raises(UserError, match=r"^A process that prepared images ran out of memory"):
        preprocess(raw, tmp_path / "data" / "out")
    assert list((tmp_path / "data").iterdir()) == []


CLUSTER = """
import sys
from pathlib import Path
sys.path.append('tests/helpers')
from tiny_project import cluster_config
from rhs.distributed.ray_cluster import connect
from rhs.preprocessing import preprocess as module
from rhs.preprocessing import ray_preprocessing
raw, out, cpus, rows, size = sys.argv[1:]
ray_preprocessing.BLOCK_ROWS, ray_preprocessing.BLOCK_BYTES = int(rows), int(size)
connect(cluster_config(num_cpus=int(cpus)))
module.preprocess(Path(raw), Path(out), rows_per_shard=500, validation=0)
"""


@pytest.mark.slow
@pytest.mark.skipif(not CARS.exists(), reason="../shared/datasets/cars196-half.tar is not here")
def test_the_same_bytes_on_one_and_on_four_processors(tmp_path):
    folder.fetch(tmp_path / "raw", str(CARS))
    digests = set()
    for how in (["1", "256", "10000000"], ["4", "100", "50000"]):
        out = tmp_path / "-".join(how)
        command = [sys.executable, "-c", CLUSTER, str(tmp_path / "raw"), str(out), *how]
        subprocess.run(command, check=True, cwd=Path(__file__).parents[2])
        digests.add(load_manifest(out)["digest"])
        shards = load_manifest(out)["shards"]
        assert [s["sha256"] for s in shards] == [
            hashlib.sha256((out / s["file"]).read_bytes()).hexdigest() for s in shards
        ]
    assert len(digests) == 1


@pytest.mark.skipif(not CARS.exists(), reason="../shared/datasets/cars196-half.tar is not here")
def test_cars196_half(ray_cluster, tmp_path):
    made = folder.fetch(tmp_path / "raw", str(CARS))
    assert (made["images"], made["classes"]) == (8144, 196)
    manifest = preprocess(tmp_path / "raw", tmp_path / "out", validation=0)
    assert manifest["splits"]["train"]["classes"] == manifest["splits"]["test"]["classes"] == 98
    # Eleven photographs stand in two classes each; 4,052 + 4,092 images otherwise.
    assert manifest["refused_by_reason"] == {"duplicate content across classes": 22}
    assert manifest["splits"]["train"]["images"] + manifest["splits"]["test"]["images"] == 8122
