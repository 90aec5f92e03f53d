"""Reading shards: the rows that the manifest promises, in its order."""

import io
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tiny_project import write_shard

from rhs.data.shards import SHARD_SCHEMA, ShardedImages, has_split, load_manifest
from rhs.errors import UserError


def gray_png(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (3, 2), value).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def shards(tmp_path):
    values = [
        (gray_png(i), i // 3, "ab"[i // 3], f"{i}", "", 3, 2, "", None, None) for i in range(5)
    ]
    rows = [dict(zip(SHARD_SCHEMA.names, row, strict=True)) for row in values]
    files = {
        "train-00000.parquet": rows[:2],
        "train-00001.parquet": rows[2:],
        "test-00000.parquet": rows[:1],
    }
    for file, part in files.items():
        write_shard(tmp_path / file, part)
    manifest = {
        "class_names": ["a", "b"],
        "splits": {"train": {"images": 5}, "val": {"images": 0}, "test": {"images": 1}},
        "shards": [{"file": file, "rows": len(part)} for file, part in files.items()],
    }
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    return tmp_path


def test_rows_of_a_split_in_order(shards):
    images = ShardedImages(shards, "train")
    assert len(images) == 5
    assert images.labels.dtype == np.int64
    assert images.labels.tolist() == [0, 0, 0, 1, 1]
    assert images.names == ["0", "1", "2", "3", "4"]
    assert images.class_names == ["a", "b"]
    for i in (4, 0, 2, 1, 3):
        assert images.bytes(i) == gray_png(i)
        assert images.decode(i).shape == (2, 3, 1)
        assert np.all(images.decode(i) == i)


@pytest.mark.parametrize("i", [-1, 5])
def test_no_image_outside(shards, i):
    with pytest.raises(IndexError):
        ShardedImages(shards, "train").bytes(i)


def test_shards_of_another_version(shards):
    file = shards / "train-00000.parquet"
    pq.write_table(pq.read_table(file).drop_columns("values"), file)
    with pytest.raises(UserError, match="run the preprocess stage again"):
        ShardedImages(shards, "train")


def test_an_empty_split(shards):
    images = ShardedImages(shards, "val")
    assert len(images) == 0
    assert images.labels.shape == (0,)
    assert [has_split(shards, s) for s in ("train", "val", "test")] == [True, False, True]


def test_wrong_split_and_missing_manifest(shards, tmp_path):
    with pytest.raises(UserError, match="has train, val, test"):
        ShardedImages(shards, "valid")
    with pytest.raises(UserError, match="run the preprocess stage first"):
        load_manifest(tmp_path / "elsewhere")
