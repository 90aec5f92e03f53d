"""The index as files: what they say, and that they fit the images and the model."""

import dataclasses
import io
import json
from dataclasses import asdict

import numpy as np
import pytest
from PIL import Image
from searchable import save_model
from tiny_project import composed, png, write_shard

from rhs.data.shards import SHARD_SCHEMA, ShardedImages
from rhs.errors import UserError
from rhs.inference.index import ITEMS, VECTORS, index_digest, open_index, read_facts
from rhs.inference.index_builder import build_index, summary
from rhs.inference.index_items import Items, write_items
from rhs.models.embedder import model_digest


def test_the_facts(made, tmp_path, capsys):
    facts = build_index(tmp_path, made.shards, made.embedded, made.model, asdict(composed().index))
    assert facts == read_facts(tmp_path) == json.loads((tmp_path / "index.json").read_text())
    assert (facts["kind"], facts["dim"], facts["images"]) == ("flat", 6, 17)
    assert facts["splits"] == {"train": 9, "test": 8}, "val has no image"
    assert facts["model"] == model_digest(made.model)
    assert (facts["recall_at_10"], facts["queries"]) == (1.0, 17)
    size = (tmp_path / VECTORS).stat().st_size
    assert 24 < facts["bytes_per_vector"] == round(size / 17, 1)
    said = "index: 17 images, flat, Recall@10 against exact search 100.0% (17 queries), 27 bytes"
    assert summary(facts).startswith(said)
    assert summary(facts) in capsys.readouterr().out


def test_rows_are_the_images(made):
    index = open_index(made.index, made.model)
    images = [
        (split, each, i)
        for split in ("train", "test")
        for each in [ShardedImages(made.shards, split)]
        for i in range(len(each))
    ]
    assert len(images) == len(index.items) == 17
    for (split, each, i), item in zip(images, index.items, strict=True):
        assert (item.name, item.split) == (each.names[i], split)
        assert item.class_name == each.class_names[each.labels[i]]
        assert item.thumbnail == each.bytes(i), "16 pixels are no more than 96"
    x_ND = np.concatenate([made.embedded[split].embeddings for split in ("train", "test")])
    for row, hits in enumerate(index.search(x_ND, 1)):
        assert hits[0].item == index.items[row]
        assert hits[0].similarity == pytest.approx(1)


def test_embeddings_of_any_length_are_searched_by_cosine(made, tmp_path):
    longer = {}
    for split, each in made.embedded.items():
        lengths_N1 = 1 + np.arange(len(each))[:, None]
        longer[split] = dataclasses.replace(each, embeddings=each.embeddings * lengths_N1)
    build_index(tmp_path, made.shards, longer, made.model, {})
    asked = made.embedded["test"].embeddings
    one, other = (open_index(f, made.model).search(asked, 17) for f in (tmp_path, made.index))
    for mine, theirs in zip(one, other, strict=True):
        assert [h.item.name for h in mine] == [h.item.name for h in theirs]
        np.testing.assert_allclose([h[0] for h in mine], [h[0] for h in theirs], atol=1e-6)


def test_the_same_input_gives_the_same_files_and_another_setting_others(made, tmp_path):
    folders = [tmp_path / name for name in ("same", "small", "test")]
    for folder, settings in zip(folders, ({}, {"thumbnail": 8}, {"splits": ["test"]}), strict=True):
        folder.mkdir()
        build_index(folder, made.shards, made.embedded, made.model, settings)
    assert all((folders[0] / f.name).read_bytes() == f.read_bytes() for f in made.index.iterdir())
    digests = {index_digest(folder) for folder in folders}
    assert len(digests) == 3
    assert index_digest(made.index) == index_digest(folders[0])
    assert read_facts(folders[2])["splits"] == {"test": 8}


def test_thumbnails_are_small_or_none(made, tmp_path):
    for side in (8, 0):
        write_items(tmp_path / ITEMS, made.shards, ["test"], side)
        build_index(tmp_path, made.shards, made.embedded, made.model, {"thumbnail": side})
        for item in open_index(tmp_path, made.model).items:
            if side:
                with Image.open(io.BytesIO(item.thumbnail)) as image:
                    assert image.size == (8, 8)
            else:
                assert item.thumbnail == b""


def test_missing_or_foreign_embeddings_are_refused(made, tmp_path):
    def refused(embedded, said, model=made.model, **settings):
        with pytest.raises(UserError, match=said):
            build_index(tmp_path, made.shards, embedded, model, settings)
        assert list(tmp_path.glob("*")) == []

    test = made.embedded["test"]
    refused({"test": test}, "index.splits has 'train', whose images are not embedded")
    turned = dataclasses.replace(test, names=test.names[::-1])
    refused(made.embedded | {"test": turned}, "split 'test' are not of the images in")
    other = save_model(tmp_path.with_name("other"), seed=9)
    refused(made.embedded, "'train' were not made by the model in .*other", model=other)
    narrow = dataclasses.replace(test, embeddings=test.embeddings[:, :5], model="")
    refused({"test": narrow}, "'test' were not made by", splits=["test"])
    broken = dataclasses.replace(test, embeddings=test.embeddings * np.nan)
    refused({"test": broken}, "NaN or infinity", splits=["test"])
    refused(made.embedded, r"index.splits is \['val'\]; .* has no image", splits=["val"])
    refused(made.embedded, "needs 9,984 images", kind="ivf_pq")


def test_rows_past_the_first_group_are_their_own(tmp_path, monkeypatch):
    """Several shards, several row groups, and a query among the images of the test."""
    monkeypatch.setattr("rhs.inference.index_items.ROW_GROUP", 3)
    rows = []
    for i in range(8):
        data = png(np.full((4, 4, 3), 20 * i, np.uint8))
        part = "query" if i % 2 else "gallery"
        values = (data, 0, "only", f"only/{i}.png", str(i), 4, 4, part, None, None)
        rows.append(dict(zip(SHARD_SCHEMA.names, values, strict=True)))
    for number in (0, 1):
        write_shard(tmp_path / f"test-0000{number}.parquet", rows[4 * number : 4 * number + 4])
    shards = [{"file": f"test-0000{number}.parquet", "rows": 4} for number in (0, 1)]
    manifest = {"splits": {"test": {"images": 8}}, "shards": shards, "class_names": ["only"]}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    write_items(tmp_path / ITEMS, tmp_path, ["test"], 96)
    items = Items(tmp_path / ITEMS)
    assert len(items) == 8
    assert [items[i].name for i in (7, 0, 3, 2)] == [f"only/{i}.png" for i in (7, 0, 3, 2)]
    assert [item.thumbnail for item in items] == [row["image"] for row in rows]
    for row in (-1, 8):
        with pytest.raises(IndexError):
            items[row]
