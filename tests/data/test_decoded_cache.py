"""Images decoded once: the decoder's pixels, made once, whole or not at all."""

import io
import shutil
import subprocess
import sys
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from tiny_project import ROOT, cluster_config, write_shards

from rhs.data import decoded_cache as module
from rhs.data.decoded_cache import DecodedImages, cache_path, decoded_size
from rhs.data.open_images import open_images
from rhs.data.shards import ShardedImages
from rhs.errors import UserError

LAPTOP = cluster_config(
    input="auto",
    input_threads=None,
    decoded_gib=1,
    resources_per_worker={"CPU": 1},
)


@pytest.fixture
def shards(tmp_path, monkeypatch):
    import tiny_project

    def gray_or_color(label: int, number: int) -> np.ndarray:
        shape = (5 + label, 7 + number) if label % 2 else (9, 4, 3)
        return np.random.default_rng([label, number]).integers(0, 256, shape, dtype=np.uint8)

    monkeypatch.setattr(tiny_project, "class_image", gray_or_color)
    return write_shards(tmp_path / "shards", train=[3, 4, 2], test=[2, 2])


def count_decodes(monkeypatch) -> list[int]:
    seen, plain = [], ShardedImages.decode

    def decode(self, i):
        seen.append(i)
        return plain(self, i)

    monkeypatch.setattr(ShardedImages, "decode", decode)
    return seen


def test_pixels_are_the_decoders_and_decoded_once(shards, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "AT_ONCE", 4)
    plain = ShardedImages(shards, "train")
    expected = [plain.decode(i) for i in range(len(plain))]
    seen = count_decodes(monkeypatch)
    for _ in range(2):
        images = DecodedImages(shards, "train", tmp_path / "cache", threads=3)
        for i in (8, 0, 5, *range(9)):
            assert np.array_equal(images.decode(i), expected[i])
            assert images.decode(i).shape == expected[i].shape
    assert sorted(seen) == list(range(9))
    assert images.labels.tolist() == plain.labels.tolist()
    with pytest.raises(IndexError):
        images.decode(9)


def test_other_shards_and_other_decoders_have_their_own(shards, tmp_path, monkeypatch):
    other = write_shards(tmp_path / "other", train=[3, 4, 2], test=[2, 3])
    places = {
        cache_path(s, split, tmp_path) for s in (shards, other) for split in ("train", "test")
    }
    source = tmp_path / "decode.py"
    source.write_text("another decoder")
    monkeypatch.setattr(module.decode, "__file__", str(source))
    assert len(places | {cache_path(shards, "train", tmp_path)}) == 5


def test_what_cannot_be_decoded_leaves_nothing(shards, tmp_path, monkeypatch):
    def broken(self, i):
        raise OSError("disk gone")

    monkeypatch.setattr(ShardedImages, "decode", broken)
    with pytest.raises(OSError, match="disk gone"):
        DecodedImages(shards, "train", tmp_path / "cache")
    assert not [p for p in (tmp_path / "cache").iterdir() if not p.name.endswith(".lock")]


def test_pixels_that_were_cut_short_are_made_again(shards, tmp_path):
    images = DecodedImages(shards, "train", tmp_path)
    expected = images.decode(8).copy()
    with (cache_path(shards, "train", tmp_path) / "pixels").open("r+b") as file:
        file.truncate(100)
    assert np.array_equal(DecodedImages(shards, "train", tmp_path).decode(8), expected)


def test_a_folder_that_cannot_be(shards, tmp_path):
    (tmp_path / "file").write_text("")
    cluster = replace(LAPTOP, cache_folder=str(tmp_path / "file" / "below"))
    assert type(open_images(shards, "train", cluster)) is ShardedImages
    with pytest.raises(UserError, match=r"cluster\.cache_folder .* cannot be written"):
        open_images(shards, "train", replace(cluster, input="decoded"))


def test_processes_that_start_together_make_one(shards, tmp_path):
    code = (
        "import sys; from pathlib import Path; from rhs.data.decoded_cache import DecodedImages\n"
        "images = DecodedImages(Path(sys.argv[1]), 'train', Path(sys.argv[2]))\n"
        "print(sum(int(images.decode(i).sum()) for i in range(len(images))))"
    )
    command = [sys.executable, "-c", code, str(shards), str(tmp_path / "cache")]

    def run(_):
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)

    with ThreadPoolExecutor(2) as pool:
        sums = {result.stdout.splitlines()[-1] for result in pool.map(run, range(2))}
    assert len(sums) == 1


def test_auto_decodes_what_fits(shards, tmp_path, monkeypatch):
    cluster = replace(LAPTOP, cache_folder=str(tmp_path / "cache"))
    size = decoded_size(ShardedImages(shards, "train"))
    assert size == sum(3 * h * w for h, w in ShardedImages(shards, "train").sizes)
    small = replace(cluster, decoded_gib=(size - 1) / module.GIB)
    assert type(open_images(shards, "train", small)) is ShardedImages
    usage = namedtuple("Usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, 2 * size - 1))
    assert type(open_images(shards, "train", cluster)) is ShardedImages
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, 2 * size))
    assert type(open_images(shards, "train", cluster)) is DecodedImages
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, 0))
    assert type(open_images(shards, "train", cluster)) is DecodedImages  # there already
    with pytest.raises(UserError, match=r"choose another cluster\.cache_folder"):
        open_images(shards, "test", replace(cluster, input="decoded"))
    assert type(open_images(shards, "train", replace(cluster, input="shards"))) is ShardedImages


def test_the_pngs_of_this_test_are_gray_and_color(shards):
    images = ShardedImages(shards, "train")
    modes = {Image.open(io.BytesIO(images.bytes(i))).mode for i in range(len(images))}
    assert modes == {"L", "RGB"}
