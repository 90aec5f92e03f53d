"""What the report's pages are made of: gallery, curves, map and tables."""

from __future__ import annotations

import io
import re

import numpy as np
from pages import FakeImages, clusters
from PIL import Image

from rhs.metrics.retrieval_results import search
from rhs.report.embedding_map import HEIGHT, WIDTH, Projection, choose_items, draw_map
from rhs.report.pictures import thumbnail
from rhs.report.run.curves import best_recall, diagnostics, loss_curve, recall_curve, series
from rhs.report.run.gallery import random_queries, worst_failures
from rhs.report.run.tables import Cell, flatten, recall_table
from rhs.report.templating import breakable


def test_right_and_wrong_follow_the_labels():
    embeddings, labels = clusters(60, 6)
    images = FakeImages(labels)
    rows = random_queries(images, search(embeddings, labels, None, 5), count=12, k=5, seed=3)
    assert len(rows) == 12
    for row in rows:
        similarities = [neighbor.similarity for neighbor in row.neighbors]
        assert similarities == sorted(similarities, reverse=True)
        for neighbor in row.neighbors:
            assert neighbor.right == (neighbor.class_name == row.query.class_name)
            assert neighbor.name != row.query.name


def test_the_seed_draws_the_queries():
    embeddings, labels = clusters(60, 6)
    drawn = [
        [
            row.query.name
            for row in random_queries(
                FakeImages(labels), search(embeddings, labels, None, 1), count=4, k=1, seed=seed
            )
        ]
        for seed in (1, 1, 2)
    ]
    assert drawn[0] == drawn[1] != drawn[2]


def test_queries_find_what_is_in_the_gallery():
    embeddings, labels = clusters(60, 6)
    queries = np.arange(60) % 5 < 2
    images = FakeImages(labels, queries=queries)
    asked = {name for name, query in zip(images.names, queries, strict=True) if query}
    found = search(embeddings, labels, queries, 5)
    for row in random_queries(images, found, count=12, k=5, seed=3):
        assert row.query.name in asked
        assert not asked & {neighbor.name for neighbor in row.neighbors}
    failures, number = worst_failures(images, found, count=99)
    assert len(failures) == number > 0
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    for failure in failures:
        assert failure.query.name in asked
        assert not asked & {failure.wrong.name, failure.right.name}
        query = images.names.index(failure.query.name)
        similarity = np.where(queries, -2, unit @ unit[query])
        right = labels == labels[query]
        rank = (similarity > similarity[right].max()).sum() + 1
        assert failure.rank == rank
        assert failure.right.name == images.names[np.where(right, similarity, -2).argmax()]


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


def test_the_curves_say_which_epoch_the_model_is_of():
    history = [
        {"epoch": 1, "val_recall@1": "0.75", "val_map@r": "0.25"},
        {"epoch": 2, "val_recall@1": "0.5", "val_map@r": "0.5"},
    ]
    assert "MAP@R" in recall_curve(history)
    assert best_recall(history) == "highest 75.0 % at K = 1, epoch 1; the last epoch is the model"
    chosen = best_recall(history, "best")
    assert chosen == "highest 75.0 % at K = 1, epoch 1; the model is of that epoch"


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


def test_the_map_takes_its_places_from_a_projection_made_already(monkeypatch):
    embeddings, labels = clusters(45, 5)
    items = np.flatnonzero(labels != 2)
    known = Projection(items, np.random.default_rng(0).normal(size=(len(items), 2)))
    monkeypatch.setattr("rhs.report.embedding_map.project", None)
    drawn = draw_map(FakeImages(labels), embeddings, labels, seed=0, max_classes=2, known=known)
    shown = {one.name: one.points for one in drawn.classes}
    assert (len(shown), drawn.points, drawn.classes_in_all) == (2, 18, 5)
    xy = {}
    for name in shown:
        mine = np.flatnonzero(labels[items] == FakeImages(labels).class_names.index(name))
        xy[name] = known.xy_P2[mine]
    # Each axis is scaled by itself: the order along it stays.
    for axis in range(2):
        drawn_at = np.concatenate([np.array(shown[name])[:, axis] for name in shown])
        known_at = np.concatenate([xy[name][:, axis] for name in shown])
        assert np.corrcoef(drawn_at, known_at)[0, 1] > 0.9999


def test_tables():
    table = recall_table({"val": {"map": 0.5, "recall@10": 1}, "test": {"recall@2": 0.5}, "n": 1})
    assert table.columns == ["Recall@2", "Recall@10", "map"]
    assert [row[0] for row in table.rows] == ["Test", "Validation"]
    cells = [[cell.text for cell in row[2]] for row in table.rows]
    assert cells == [["50.0 %", "", ""], ["", "100.0 %", "0.5"]]
    assert not table.has_intervals
    assert flatten({"a": {"b": 1, "c": {}}, "d": None, "e": [1, "x"]}) == [
        ("a.b", "1"),
        ("a.c", ""),
        ("d", "none"),
        ("e", "1, x"),
    ]
    assert breakable("a_b/<i>") == "a_<wbr>b/<wbr>&lt;i&gt;"


def test_scores_come_with_their_intervals():
    scores = {"recall@1": 0.5, "queries": 7, "nmi": 0.25, "map@r": 0.125,
              "intervals": {"recall@1": {"low": 0.4, "high": 0.625},
                            "map@r": [0.1, 0.15]}}  # fmt: skip  # older files have lists
    table = recall_table({"test": scores, "untrained": {"recall@1": 0.25}})
    assert table.columns == ["Recall@1", "MAP@R", "NMI", "queries"]
    assert table.has_intervals
    assert table.rows[0][2] == [
        Cell("50.0 %", "40.0–62.5"),
        Cell("12.5 %", "10.0–15.0"),
        Cell("25.0 %"),
        Cell("7"),
    ]
    assert table.rows[1][2] == [Cell("25.0 %"), Cell(), Cell(), Cell()]


def test_the_pictures_on_the_map_avoid_each_other():
    _, labels = clusters(60, 6)
    mixed = np.random.default_rng(1).normal(size=(60, 8))  # every class everywhere
    drawn = draw_map(FakeImages(labels), mixed, labels, seed=0)
    anchors = np.array([one.anchor for one in drawn.classes])
    apart = np.abs(anchors[:, None] - anchors).max(axis=2) + 1e6 * np.eye(len(anchors))
    assert apart.min() > drawn.picture


def test_each_recorded_diagnostic_has_a_panel():
    history = [
        {"epoch": 1, "loss": 1.0, "effective_rank": "3.5", "synthetic_harder": "0.5"},
        {"epoch": 2, "loss": 1.0, "effective_rank": "4.5", "synthetic_harder": ""},
    ]
    panels = diagnostics(history)
    assert [panel.title for panel in panels] == [
        "Effective rank",
        "Generated points that are harder",
    ]
    assert "%" in panels[1].figure
    assert "%</text>" not in panels[0].figure
    assert diagnostics([{"epoch": 1, "loss": 1.0, "effective_rank": "nan"}]) == []
