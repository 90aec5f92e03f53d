"""Embeddings on disk: what is read is what was written, or a sentence that names the file."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rhs.data import embedding_files
from rhs.data.embedding_files import (
    Embeddings,
    read_about,
    read_embedded,
    read_split,
    split_files,
    write_embedded,
)
from rhs.errors import UserError
from rhs.storage import atomic


def some(count: int = 7, dim: int = 5, first: int = 0, **more) -> Embeddings:
    random = np.random.default_rng(first)
    return Embeddings(
        random.standard_normal((count, dim)).astype(np.float32),
        np.arange(first, first + count) - 1,
        [f"birds/{i} é.png" for i in range(first, first + count)],
        [f"class {i % 3}" if i else "" for i in range(first, first + count)],
        **{"queries": None, "model": "digest"} | more,
    )


def assert_same(a: Embeddings, b: Embeddings) -> None:
    for one, other in ((a.embeddings, b.embeddings), (a.labels, b.labels)):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    assert (a.names, a.class_names, a.model) == (b.names, b.class_names, b.model)
    assert (a.queries is None) == (b.queries is None)
    np.testing.assert_array_equal(a.queries, b.queries)


@pytest.mark.parametrize(
    "embedded",
    [
        some(),
        some(0, queries=None),
        some(queries=np.arange(7) % 2 == 0),
        some(queries=np.zeros(7, bool)),  # a shard of the gallery alone
        some(model=""),
        replace(some(), embeddings=np.array([[np.nan, -np.inf, -0.0, 1e-45, 3.4e38]] * 7, "f4")),
    ],
)
def test_what_is_written_is_read(tmp_path, embedded):
    write_embedded(tmp_path / "x.parquet", embedded)
    read = read_embedded(tmp_path / "x.parquet")
    assert_same(read, embedded)
    assert len(read) == len(embedded)
    assert read.embeddings.flags.c_contiguous
    assert read.embeddings.tobytes() == embedded.embeddings.tobytes()
    assert [path.name for path in tmp_path.iterdir()] == ["x.parquet"]


def test_a_split_is_its_files_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(embedding_files, "_ROW_GROUP", 3)  # several in a file
    parts = [some(4 + i % 2, first=10 * i, queries=np.arange(4 + i % 2) == i) for i in range(11)]
    for i, part in reversed(list(enumerate(parts))):
        write_embedded(tmp_path / f"test-{i:05d}.parquet", part)
    write_embedded(tmp_path / "untrained-test-00000.parquet", some(3))
    write_embedded(tmp_path / "val-00000.parquet", some(3))
    read = read_split(tmp_path, "test")
    np.testing.assert_array_equal(read.embeddings, np.concatenate([p.embeddings for p in parts]))
    np.testing.assert_array_equal(read.labels, np.concatenate([p.labels for p in parts]))
    np.testing.assert_array_equal(read.queries, np.concatenate([p.queries for p in parts]))
    assert read.names == [name for part in parts for name in part.names]
    assert read.class_names == [name for part in parts for name in part.class_names]


def test_other_programs_read_it(tmp_path):
    write_embedded(tmp_path / "x.parquet", some(queries=np.arange(7) == 2))
    frame = pd.read_parquet(tmp_path / "x.parquet")
    assert list(frame) == ["embedding", "name", "label", "class_name", "query"]
    np.testing.assert_array_equal(np.stack(frame["embedding"]), some().embeddings)
    assert frame["query"].tolist() == [i == 2 for i in range(7)]
    kind = pq.read_schema(tmp_path / "x.parquet").field("embedding").type
    assert (kind.list_size, kind.value_type) == (5, pa.float32())


def test_an_older_file_stays_when_writing_fails(tmp_path, monkeypatch):
    write_embedded(tmp_path / "x.parquet", some())

    def full(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic, "flush", full)
    with pytest.raises(OSError, match="No space"):
        write_embedded(tmp_path / "x.parquet", some(3))
    assert_same(read_embedded(tmp_path / "x.parquet"), some())
    assert [path.name for path in tmp_path.iterdir()] == ["x.parquet"]


@pytest.mark.parametrize("where", range(4, 3000, 371))
def test_a_changed_byte_is_noticed(tmp_path, where):
    path = tmp_path / "x.parquet"
    write_embedded(path, some(40, 16))
    data = bytearray(path.read_bytes())
    data[where] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=rf"{path} is damaged, or no Parquet file \("):
        read_embedded(path)


@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_a_file_that_is_cut_short_is_noticed(tmp_path, share):
    path = tmp_path / "x.parquet"
    write_embedded(path, some())
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(UserError, match=f"{path} is damaged"):
        read_embedded(path)


X = pa.FixedSizeListArray.from_arrays(pa.array(np.ones(6, "f4")), 3)


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"image": ["a", "b"]}, "holds no embeddings: a column `embedding` of fixed-size lists"),
        ({"embedding": [[1.0], [1.0, 2.0]]}, "holds no embeddings: a column `embedding` of fixed"),
        ({"embedding": X, "name": ["a", "b"]}, "lacks the column 'label': embedding, name, label"),
    ],
)
def test_a_file_of_something_else(tmp_path, columns, sentence):
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table(columns), path)
    with pytest.raises(UserError, match=f"{path} {sentence}"):
        read_embedded(path)


@pytest.mark.parametrize("nothing", [None, [None, 2.0]])
def test_an_image_without_an_embedding(tmp_path, nothing):
    columns = {
        "embedding": pa.array([[1.0, 2.0], nothing], pa.list_(pa.float32(), 2)),
        "name": ["a", "b"],
        "label": [1, 2],
        "class_name": ["", ""],
        "query": pa.nulls(2, pa.bool_()),
    }
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    with pytest.raises(UserError, match=r"x\.parquet is damaged"):
        read_embedded(tmp_path / "x.parquet")


def test_nothing_there(tmp_path):
    with pytest.raises(UserError, match=r"x\.parquet not found: a Parquet file of embeddings"):
        read_embedded(tmp_path / "x.parquet")
    with pytest.raises(UserError, match=f"{tmp_path} holds no embeddings of split 'val'.* evaluat"):
        read_split(tmp_path, "val")


@pytest.mark.parametrize(
    ("second", "sentence"),
    [
        (some(model="other"), "made by different models: run the evaluate stage again"),
        (some(dim=6), "made by different models: run the evaluate stage again"),
        (some(queries=np.ones(7, bool)), "some images are queries or gallery, others neither"),
    ],
)
def test_files_that_do_not_belong_together(tmp_path, second, sentence):
    write_embedded(tmp_path / "test-00000.parquet", some())
    write_embedded(tmp_path / "test-00001.parquet", second)
    with pytest.raises(UserError, match=sentence):
        read_split(tmp_path, "test")
    with pytest.raises(UserError, match=sentence):
        read_about(split_files(tmp_path, "test"))


@pytest.mark.parametrize("queries", [None, np.arange(7) % 2 == 0])
def test_what_is_known_without_the_embeddings(tmp_path, queries):
    parts = [some(queries=queries), some(first=7, queries=queries)]
    for i, part in enumerate(parts):
        write_embedded(tmp_path / f"test-{i:05d}.parquet", part)
    about, whole = read_about(split_files(tmp_path, "test")), read_split(tmp_path, "test")
    assert (about.rows, about.dim) == ([7, 7], 5)
    assert about.labels.dtype == np.int64
    np.testing.assert_array_equal(about.labels, whole.labels)
    np.testing.assert_array_equal(about.queries, whole.queries)
