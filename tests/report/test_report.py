"""The report's pages, built from small made-up data and read back with an HTML parser."""

from __future__ import annotations

import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rhs.errors import UserError
from rhs.report.curves import best_recall, loss_curve, recall_curve, series
from rhs.report.gallery import random_queries, thumbnail, worst_failures
from rhs.report.map2d import HEIGHT, WIDTH, choose_items, draw_map
from rhs.report.page import FAILURES_SHOWN, build_report
from rhs.report.tables import breakable, flatten, recall_table
from rhs.retrieval.recall import recall_at_k

NASTY = "<b>&\"'</b>"


class FakeImages:
    """Flat color pictures; class names that would break a page that forgot to escape them."""

    def __init__(self, labels: np.ndarray, size: tuple[int, int] = (40, 30)) -> None:
        self.labels = labels
        self.class_names = [f"{NASTY} {i:03d}" for i in range(int(labels.max(initial=0)) + 1)]
        self.names = [f"{NASTY}/{i}.png" for i in range(len(labels))]
        self.size = size

    def bytes(self, i: int) -> bytes:
        color = tuple(int(c) for c in np.random.default_rng(i).integers(256, size=3))
        buffer = io.BytesIO()
        Image.new("RGB", self.size, color).save(buffer, "PNG")
        return buffer.getvalue()


class Tags(HTMLParser):
    """All (tag, attributes) of a page, and its visible text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def classed(self, word: str) -> list[dict]:
        return [a for _, a in self.tags if word in (a.get("class") or "").split()]


def clusters(n: int, classes: int, noise: float = 0.9) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.arange(n) % classes
    embeddings = rng.normal(size=(classes, 8))[labels] + noise * rng.normal(size=(n, 8))
    return embeddings.astype(np.float32), labels


def write(out: Path, embeddings: np.ndarray, labels: np.ndarray, **changed) -> tuple[Tags, Tags]:
    manifest = {
        "dataset": "made-up",
        "digest": "0123456789abcdef",
        "classes": 10,
        "images": 1234,
        "splits": {
            "train": {"classes": 5, "images": 600, "singletons": 0},
            "val": {"classes": 0, "images": 0, "singletons": 0},
            "test": {"classes": 5, "images": 634, "singletons": 1},
        },
        "singletons": ["one"],
        "refused": [{"name": f"{NASTY}{i}", "class_name": "c", "why": "cut"} for i in range(53)],
        "converted": {"RGBA -> RGB": 7},
        "resized": 0,
        "duplicates_within_class": 2,
        "notes": {"faces": ["DejaVu", "STIX"]},
        "warnings": [f"Mind {NASTY}."],
    }
    arguments = {
        "title": f"Report {NASTY}",
        "params": {"seed": 3, "model": {"name": "convnet", "widths": [8, 16]}, "method": NASTY},
        "manifest": manifest,
        "history": [
            {"epoch": "0", "step": "9", "loss": "2.5", "lr": "", "val_recall@1": "0.25"},
            {"epoch": "1", "step": "18", "loss": "1.5", "lr": "", "val_recall@1": "0.75"},
        ],
        "metrics": {
            "val": {"recall@1": 0.5, "recall@10": 1},
            "untrained": {"recall@1": 0.125, "queries": 60, "left_out": 0},
            "test": {"recall@1": 0.625, "recall@2": 0.875, "queries": 60, "left_out": 0},
        },
        "shards": {"test": FakeImages(labels)},
        "splits": {"test": (embeddings, labels)},
        "seed": 3,
    }
    build_report(out=out, **(arguments | changed))
    return tuple(
        Tags((out / name).read_text(encoding="utf-8")) for name in ("index.html", "failures.html")
    )


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    return write(tmp_path_factory.mktemp("report"), *clusters(60, 6))


def test_every_query_has_five_framed_neighbors(pages):
    index, _ = pages
    assert len(index.classed("row")) == 12
    assert len(index.classed("query")) == 12
    framed = [a["class"] for t, a in index.tags if t == "figure" and a["class"] != "tile query"]
    assert len(framed) == 12 * 5
    assert set(framed) == {"tile right", "tile wrong"}
    # Color is not the only cue: each has a drawn mark and a word for screen readers.
    assert index.text.count(", right") == framed.count("tile right")
    assert index.text.count(", wrong") == framed.count("tile wrong")
    assert len(index.classed("mark")) == len(framed) + 2  # and two in the legend


def test_right_and_wrong_follow_the_labels():
    embeddings, labels = clusters(60, 6)
    images = FakeImages(labels)
    rows = random_queries(images, embeddings, labels, count=12, k=5, seed=3)
    for row in rows:
        similarities = [neighbor.similarity for neighbor in row.neighbors]
        assert similarities == sorted(similarities, reverse=True)
        for neighbor in row.neighbors:
            assert neighbor.right == (neighbor.class_name == row.query.class_name)
            assert neighbor.name != row.query.name


def test_the_seed_draws_the_queries():
    embeddings, labels = clusters(60, 6)
    drawn = [
        [row.query.name for row in random_queries(
            FakeImages(labels), embeddings, labels, count=4, k=1, seed=seed)]
        for seed in (1, 1, 2)
    ]  # fmt: skip
    assert drawn[0] == drawn[1] != drawn[2]


def test_failures_are_the_wrong_queries_worst_first(pages):
    _, page = pages
    embeddings, labels = clusters(60, 6)
    failures, in_all = worst_failures(FakeImages(labels), embeddings, labels, count=1000)
    scores = recall_at_k(embeddings, labels, [1])
    assert in_all == len(failures) == round(60 * (1 - scores["recall@1"]))
    gaps = [failure.gap for failure in failures]
    assert gaps == sorted(gaps, reverse=True)
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    similarity = unit @ unit.T
    np.fill_diagonal(similarity, -2)
    for failure in failures:
        i = int(failure.query.name.rsplit("/")[-1][:-4])
        same = labels == labels[i]
        assert failure.wrong.similarity == pytest.approx(similarity[i].max(), abs=1e-5)
        assert failure.right.similarity == pytest.approx(similarity[i][same].max(), abs=1e-5)
        assert failure.rank == (similarity[i] > similarity[i][same].max()).sum() + 1 > 1
        assert (failure.wrong.right, failure.right.right) == (False, True)
    assert len(page.classed("failure")) == min(FAILURES_SHOWN, in_all)
    shown = [float(gap) for gap in re.findall(r"gap (-?[\d.]+)", page.text)]
    assert shown == sorted(shown, reverse=True)


def test_pages_need_nothing_from_elsewhere(pages):
    for page in pages:
        for tag, attributes in page.tags:
            assert tag != "script"
            for name in ("src", "href", "xlink:href", "srcset"):
                target = attributes.get(name, "data:")
                assert target.startswith(("data:", "#")) or target in (
                    "index.html",
                    "failures.html",
                )
            assert "url(http" not in (attributes.get("style") or "")


def test_links_within_the_page_lead_somewhere(pages):
    index, _ = pages
    ids = [a["id"] for _, a in index.tags if "id" in a]
    assert len(ids) == len(set(ids))
    for _, attributes in index.tags:
        for name in ("href", "xlink:href"):
            if attributes.get(name, "").startswith("#"):
                assert attributes[name][1:] in ids


def test_names_are_escaped(pages):
    for page in pages:
        assert f"Report {NASTY}" in page.text
    index, failures = pages
    assert not [tag for tag, _ in index.tags if tag == "b"]
    assert len([tag for tag, _ in failures.tags if tag == "b"]) == len(failures.classed("failure"))
    assert f"Mind {NASTY}." in index.text
    assert f"{NASTY}49" in index.text
    assert any(a.get("alt", "").startswith(NASTY) for _, a in index.tags)


def test_numbers_and_lists_are_there(pages):
    text = pages[0].text
    for expected in ("62.5 %", "87.5 %", "100.0 %", "+50.0 over untrained", "1,234 images",
                     "53 images were refused", "and 3 more", "RGBA -> RGB", "DejaVu, STIX",
                     "model.widths", "highest 75.0 % at K = 1, epoch 1"):  # fmt: skip
        assert expected in text, expected
    assert f"{NASTY}50" not in text


def test_the_same_arguments_give_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / name, *clusters(24, 4))
    for page in ("index.html", "failures.html"):
        assert (tmp_path / "a" / page).read_bytes() == (tmp_path / "b" / page).read_bytes()


def test_nothing_measured_yet(tmp_path):
    index, _ = write(tmp_path, *clusters(24, 4), history=[], metrics={})
    assert "No epoch recorded a loss." in index.text
    assert "No epoch recorded a validation score." in index.text
    assert "No scores were recorded." in index.text


def test_a_split_that_was_not_embedded_is_no_trouble(tmp_path):
    embeddings, labels = clusters(24, 4)
    index, _ = write(
        tmp_path,
        embeddings,
        labels,
        metrics={"test": {"recall@1": 0.5}},
        history=[{"epoch": 0, "loss": 1.0, "val_recall@1": None}],
    )
    assert "Validation" not in [a.get("aria-label") for _, a in index.tags]
    assert "No epoch recorded a validation score." in index.text


def test_one_class_left(tmp_path):
    embeddings, _ = clusters(8, 4)
    index, failures = write(tmp_path, embeddings, np.zeros(8, dtype=int))
    assert not index.classed("wrong")[1:]  # the legend's only
    assert "No test query has a nearest neighbor of another class." in failures.text


def test_classes_of_one_image_only(tmp_path):
    embeddings, _ = clusters(5, 5)
    index, failures = write(tmp_path, embeddings, np.arange(5))
    assert "nothing to retrieve" in index.text
    assert "No test query" in failures.text


@pytest.mark.parametrize("n", [2, 3])
def test_fewer_images_than_neighbors(tmp_path, n):
    index, _ = write(tmp_path, *clusters(n, 1))
    assert len(index.classed("row")) == n
    assert "too few test images for a map" in index.text


def test_collapsed_embeddings_still_give_a_page(tmp_path):
    _, labels = clusters(20, 4)
    index, failures = write(tmp_path, np.ones((20, 8), dtype=np.float32), labels)
    assert "NaN" not in index.text
    assert "nan" not in str(index.tags)
    assert "No test query" in failures.text  # all tie: none is wrong for certain


def test_a_test_split_is_needed(tmp_path):
    with pytest.raises(UserError, match="test split"):
        write(tmp_path, *clusters(8, 2), splits={})


def test_embeddings_of_other_shards_are_refused(tmp_path):
    embeddings, labels = clusters(8, 2)
    for wrong in (labels[:-1], labels[::-1]):
        with pytest.raises(UserError, match="run the evaluate stage again"):
            write(tmp_path, embeddings, labels, shards={"test": FakeImages(wrong)})
    assert not list(tmp_path.iterdir())


def test_thumbnails_are_small_and_keep_their_shape():
    for size, expected in (((400, 200), (96, 48)), ((20, 30), (20, 30)), ((1, 500), (1, 96))):
        data = FakeImages(np.zeros(1, dtype=int), size).bytes(0)
        uri, *shown = thumbnail(data)
        assert uri.startswith("data:image/")
        assert tuple(shown) == expected


def test_a_noisy_photograph_is_stored_as_jpeg():
    pixels = np.random.default_rng(0).integers(256, size=(90, 90, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    assert thumbnail(buffer.getvalue())[0].startswith("data:image/jpeg")


def test_curves_skip_cells_without_a_number():
    history = [
        {"epoch": 0, "loss": ""},
        {"epoch": 1, "loss": "nan"},
        {"epoch": 2, "loss": 0.5, "val_recall@1": "0.5", "val_recall@10": "1.0"},
    ]
    assert series(history, "loss") == ([2.0], [0.5])
    assert series(history, "absent") == ([], [])
    assert loss_curve(history[:2]) is None
    assert recall_curve(history[:2]) is None
    assert best_recall(history[:2]) == ""
    drawn = recall_curve(history)
    assert "Recall@10" in drawn
    assert "var(--accent)" in drawn
    assert "#0" not in re.sub(r"#[\w-]*-", "", drawn)  # no fixed color is left


def test_the_map_takes_whole_classes_large_ones_first():
    labels = np.repeat(np.arange(5), [3, 8, 5, 20, 8])
    chosen = choose_items(labels, max_classes=3, max_points=19, seed=0)
    assert sorted(set(labels[chosen])) == [0, 1, 4]
    assert len(chosen) == 8 + 8 + 3
    huge = choose_items(np.zeros(50, dtype=int), max_classes=3, max_points=10, seed=0)
    assert len(np.unique(huge)) == 10


def test_the_map_draws_every_chosen_point_inside():
    embeddings, labels = clusters(45, 5)
    drawn = draw_map(FakeImages(labels), embeddings, labels, seed=0)
    points = [point for one in drawn.classes for point in one.points]
    assert len(points) == drawn.points == 45
    assert len({one.color for one in drawn.classes}) == 5
    for x, y in [*points, *(one.anchor for one in drawn.classes)]:
        assert 0 < x < WIDTH
        assert 0 < y < HEIGHT


def test_tables():
    table = recall_table({"val": {"map": 0.5, "recall@10": 1}, "test": {"recall@2": 0.5}, "n": 1})
    assert table.columns == ["Recall@2", "Recall@10", "map"]
    assert [row[0] for row in table.rows] == ["Test", "Validation"]
    assert [row[2] for row in table.rows] == [["50.0 %", "", ""], ["", "100.0 %", "0.5"]]
    assert flatten({"a": {"b": 1, "c": {}}, "d": None, "e": [1, "x"]}) == [
        ("a.b", "1"), ("a.c", ""), ("d", "none"), ("e", "1, x")]  # fmt: skip
    assert breakable("a_b/<i>") == "a_<wbr>b/<wbr>&lt;i&gt;"


def test_the_pictures_on_the_map_avoid_each_other():
    _, labels = clusters(60, 6)
    mixed = np.random.default_rng(1).normal(size=(60, 8))  # every class everywhere
    drawn = draw_map(FakeImages(labels), mixed, labels, seed=0)
    anchors = np.array([one.anchor for one in drawn.classes])
    apart = np.abs(anchors[:, None] - anchors).max(axis=2) + 1e6 * np.eye(len(anchors))
    assert apart.min() > drawn.picture
