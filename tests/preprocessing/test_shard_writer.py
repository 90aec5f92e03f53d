"""The bytes of shards: a matter of the rows alone, not of the tables that they come in."""

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rhs.data.shards import SHARD_SCHEMA
from rhs.preprocessing import shard_writer as module
from rhs.preprocessing.shard_writer import ShardWriter


def rows(count: int = 60, unit: int = 1) -> pa.Table:
    """Images of 1 to 20 times `unit` bytes, the first 35 of the group "train"."""
    random = np.random.default_rng(0)
    columns = {
        "image": [random.bytes(unit * int(n)) for n in random.integers(1, 21, count)],
        "label": list(range(count)),
        "class_name": [f"class {i // 7}" for i in range(count)],
        "name": [f"{i}.png" for i in range(count)],
        "sha256": [hashlib.sha256(bytes([i])).hexdigest() for i in range(count)],
        "width": [i + 1 for i in range(count)],
        "height": [i + 2 for i in range(count)],
        "split": ["train"] * 35 + ["query", "gallery"] * ((count - 35) // 2) + ["query"],
        "converted": ["P -> RGB" if i % 3 else None for i in range(count)],
        "values": [[i / 2] if i % 4 else None for i in range(count)],
    }
    arrays = [pa.array(columns[field.name][:count], field.type) for field in SHARD_SCHEMA]
    table = pa.Table.from_arrays(arrays, schema=SHARD_SCHEMA)
    return table.append_column("group", pa.array(["train"] * 35 + ["test"] * (count - 35)))


def written(folder, tables, rows_per_shard=10) -> list[dict]:
    folder.mkdir()
    with ShardWriter(folder, rows_per_shard) as writer:
        for table in tables:
            writer.add(table)
        writer.close()
    return writer.shards


@pytest.fixture(autouse=True)
def small_row_groups(monkeypatch):
    monkeypatch.setattr(module, "ROW_GROUP_BYTES", 50)


def test_all_rows_in_order_in_bounded_row_groups(tmp_path):
    shards = written(tmp_path / "out", [rows()])
    assert [(s["file"], s["rows"]) for s in shards] == [
        *((f"train-{i:05d}.parquet", 10) for i in range(3)),
        ("train-00003.parquet", 5),
        ("test-00000.parquet", 10),
        ("test-00001.parquet", 10),
        ("test-00002.parquet", 5),
    ]
    files = [tmp_path / "out" / s["file"] for s in shards]
    assert pa.concat_tables(map(pq.read_table, files)).equals(rows().drop_columns(["group"]))
    groups = 0
    for file, shard in zip(files, shards, strict=True):
        assert hashlib.sha256(file.read_bytes()).hexdigest() == shard["sha256"]
        parquet = pq.ParquetFile(file)
        groups += parquet.num_row_groups
        for group in range(parquet.num_row_groups):
            images = parquet.read_row_group(group, columns=["image"])["image"].to_pylist()
            assert sum(map(len, images)) <= 50
    assert len(files) < groups < len(rows())


@pytest.mark.parametrize("cut", [1, 3, 7, 36, "random"])
def test_how_the_rows_come_makes_no_difference(tmp_path, monkeypatch, cut):
    whole = rows(unit=5000)  # pages are 1 MiB: a chunk's end must not be a page's
    monkeypatch.setattr(module, "ROW_GROUP_BYTES", 1_500_000)
    ends = list(range(0, 60, cut)) if cut != "random" else [0, 2, 2, 19, 20, 35, 59]
    parts = [whole.slice(a, b - a) for a, b in zip(ends, [*ends[1:], 60], strict=True)]
    # As they come from Ray and through a filter: with offsets, and in several chunks.
    parts = [pa.concat_tables([p.slice(0, 1), p.slice(1)]) if len(p) else p for p in parts]
    assert written(tmp_path / "parts", parts, 30) == written(tmp_path / "whole", [whole], 30)
    for file in (tmp_path / "whole").iterdir():
        assert file.read_bytes() == (tmp_path / "parts" / file.name).read_bytes()


def test_an_image_larger_than_a_row_group(tmp_path):
    table = rows(40)
    large = pa.array([bytes(500), *table["image"].to_pylist()[1:]], pa.binary())
    table = table.set_column(0, "image", large)
    written(tmp_path / "out", [table], 100)
    first = pq.ParquetFile(tmp_path / "out" / "train-00000.parquet").read_row_group(0)
    assert first.num_rows == 1
