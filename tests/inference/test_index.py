"""Searching in an index on disk, and the indexes that are refused."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from searchable import save_model, unit

from rhs.errors import UserError
from rhs.inference.faiss_index import check_index_settings, create_index
from rhs.inference.index import FACTS, ITEMS, LEFT_OUT, VECTORS, Index, open_index
from rhs.inference.index_builder import build_index
from rhs.inference.index_items import Item, Items
from rhs.storage.digest import file_digest


def test_the_nearest_images_are_those_of_a_brute_force_search(made):
    index = open_index(made.index, made.model)
    assert len(index) == 17
    parts = [made.embedded[split] for split in ("train", "test")]
    x_ND = np.concatenate([part.embeddings for part in parts])
    names = [name for part in parts for name in part.names]
    asked = x_ND[[3, 12]] + 0.01
    asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    similarities = asked @ x_ND.T
    for row, hits in enumerate(index.search(asked, 6)):
        order = np.argsort(-similarities[row])[:6]
        assert [hit.item.name for hit in hits] == [names[i] for i in order]
        np.testing.assert_allclose([h.similarity for h in hits], similarities[row][order], 1e-5)
    assert [len(hits) for hits in index.search(asked, 100)] == [17, 17]
    with pytest.raises(UserError, match="k is 0"):
        index.search(asked, 0)


def test_an_approximate_index_is_opened_like_any_other(made, tmp_path):
    facts = build_index(tmp_path, made.shards, made.embedded, made.model, {"kind": "hnsw"})
    assert facts["kind"] == "hnsw"
    index = open_index(tmp_path, made.model)
    assert index.vectors.hnsw.efSearch == 128
    test = made.embedded["test"]
    for name, hits in zip(test.names, index.search(test.embeddings, 17), strict=True):
        assert hits[0].item.name == name
        assert len({hit.item.name for hit in hits}) == len(hits)


def test_an_approximate_index_may_find_fewer(monkeypatch):
    monkeypatch.setattr("rhs.inference.faiss_index.PER_CODEWORD", 1)
    x_ND = unit(300, 8)
    vectors = create_index(
        "ivf_pq", x_ND, check_index_settings({"ivf_pq": {"nlist": 8, "nprobe": 1}})
    )
    index = Index({}, vectors, [Item(str(i), "", "test", b"") for i in range(300)])
    (hits,) = index.search(x_ND[:1], 300)
    assert 0 < len(hits) < 300
    assert len({hit.item.name for hit in hits}) == len(hits)


def test_another_model_is_refused(made, tmp_path):
    other = save_model(tmp_path / "other", seed=2)
    with pytest.raises(UserError, match="was made by another model") as refused:
        open_index(made.index, other)
    sentence = str(refused.value)
    assert str(made.index) in sentence
    assert str(other) in sentence
    assert "\n" not in sentence
    copy = shutil.copytree(made.model, tmp_path / "copy")
    assert len(open_index(made.index, copy)) == 17, "the same model in another place"


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_damage_is_told(mine):
    flip(mine.index / VECTORS, -1)
    with pytest.raises(UserError, match=r"index.faiss is damaged: its checksum"):
        open_index(mine.index, mine.model)
    (mine.index / VECTORS).unlink()
    with pytest.raises(UserError, match=r"index.faiss not found: run the evaluate stage"):
        open_index(mine.index, mine.model)


def test_bytes_that_are_no_index_are_told(mine):
    (mine.index / VECTORS).write_bytes(b"IxQQ" + bytes(100))
    facts = json.loads((mine.index / FACTS).read_text())
    facts["sha256"][VECTORS] = file_digest(mine.index / VECTORS)
    (mine.index / FACTS).write_text(json.dumps(facts))
    with pytest.raises(UserError, match=r"index.faiss cannot be read by faiss"):
        open_index(mine.index, mine.model)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (FACTS, None, "holds no index"),
        (FACTS, "{", "is damaged, or describes something else"),
        (FACTS, "[]", "is damaged"),
        (FACTS, '{"model": 3}', "is damaged"),
        (ITEMS, None, "items.parquet not found"),
        (ITEMS, "PAR1", "items.parquet is damaged: its checksum"),
        (LEFT_OUT, "no index: too large.", "no index: too large."),
    ],
)
def test_files_that_are_missing_or_something_else(mine, name, text, said):
    if text is None:
        (mine.index / name).unlink()
    else:
        (mine.index / name).write_text(text)
    with pytest.raises(UserError, match=said):
        open_index(mine.index, mine.model)


def test_files_of_two_indexes_are_refused(mine, tmp_path):
    build_index(tmp_path, mine.shards, mine.embedded, mine.model, {"splits": ["test"]})
    shutil.copy(tmp_path / ITEMS, mine.index / ITEMS)
    with pytest.raises(UserError, match=r"items.parquet is damaged: its checksum is not that of"):
        open_index(mine.index, mine.model)
    facts = json.loads((mine.index / FACTS).read_text())
    facts["sha256"][ITEMS] = file_digest(mine.index / ITEMS)
    (mine.index / FACTS).write_text(json.dumps(facts))
    with pytest.raises(UserError, match=r"17 images .* 17 vectors of 6 and 8 items are there"):
        open_index(mine.index, mine.model)


def test_items_of_other_columns_are_refused(tmp_path):
    pq.write_table(pa.table({"name": ["a"]}), tmp_path / ITEMS)
    with pytest.raises(UserError, match="has not the columns name, class_name"):
        Items(tmp_path / ITEMS)


def test_only_the_asked_items_are_read(mine, monkeypatch):
    """Damage in one row group is met by who asks for it, and by nobody else."""
    monkeypatch.setattr("rhs.inference.index_items.ROW_GROUP", 4)
    build_index(mine.index, mine.shards, mine.embedded, mine.model, {})
    path = mine.index / ITEMS
    column = pq.ParquetFile(path).metadata.row_group(2).column(3)  # of train: 4, 4, 1 rows
    flip(path, column.data_page_offset + column.total_compressed_size - 10)
    items = Items(path)
    assert items[7].name.startswith("class001")
    assert items[9].name.startswith("class002")
    with pytest.raises(UserError, match=r"items.parquet cannot be read"):
        items[8]
