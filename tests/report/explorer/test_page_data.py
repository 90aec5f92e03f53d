"""The explorer's data, and the search behind it."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from pages import NASTY, FakeImages, clusters, write

from rhs.metrics.retrieval import score
from rhs.metrics.retrieval_results import search
from rhs.report.explorer.page import as_json
from rhs.report.explorer.page_data import (
    _BLANK,
    NEIGHBORS,
    build_page_data,
    choose_shown,
    data_digest,
)


def data_of(embeddings, labels, shown=None, queries=None):
    images = FakeImages(labels, queries=queries)
    found = search(embeddings, labels, queries, NEIGHBORS)
    shown = np.arange(len(labels)) if shown is None else shown
    return build_page_data(images, found, shown, None, {}), images


def test_a_sample_is_of_whole_classes_and_the_same_for_every_run():
    labels = np.repeat(np.arange(20), np.arange(1, 21))
    chosen = choose_shown(labels, 100)
    assert 80 < len(chosen) <= 100
    for label in np.unique(labels[chosen]):
        assert (labels[chosen] == label).sum() == (labels == label).sum()
    assert chosen.tolist() == choose_shown(labels, 100).tolist()
    assert choose_shown(labels, 210).tolist() == list(range(210))
    assert len(choose_shown(np.zeros(50, dtype=int), 7)) == 7


def test_neighbors_of_a_sample_are_searched_among_all():
    embeddings, labels = clusters(60, 6)
    whole, images = data_of(embeddings, labels)
    shown = np.flatnonzero(labels < 2)
    part, _ = data_of(embeddings, labels, shown)
    assert [part["names"][i] for i in part["queries"]] == [images.names[i] for i in shown]
    for row, query in enumerate(shown):
        expected = [whole["names"][i] for i in whole["neighbors"][query]]
        assert [part["names"][i] for i in part["neighbors"][row]] == expected
        for name in ("similarities", "hits", "ranks"):
            assert part[name][row] == whole[name][query]
    for image, name in enumerate(part["names"]):
        at = images.names.index(name)
        assert part["classes"][part["labels"][image]] == images.class_names[labels[at]]
        assert part["pictures"][part["thumbs"][image]] == whole["pictures"][whole["thumbs"][at]]


def test_pairs_and_recalls_are_of_all_queries_whatever_the_page_shows():
    embeddings, labels = clusters(60, 6)
    part, images = data_of(embeddings, labels, np.flatnonzero(labels == 2))
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    similarity = unit @ unit.T - 9 * np.eye(60)
    nearest = labels[similarity.argmax(axis=1)]
    assert part["classes"] == [images.class_names[label] for label in range(6)]
    expected = Counter((int(a), int(b)) for a, b in zip(labels, nearest, strict=True) if a != b)
    assert len(expected) > 3
    assert {(of, as_): count for of, as_, count in part["pairs"]} == dict(expected)
    assert part["pairs_in_all"] == len(expected)
    counts = [count for *_, count in part["pairs"]]
    assert counts == sorted(counts, reverse=True)
    hits = [int((nearest == labels)[labels == label].sum()) for label in range(6)]
    assert part["asked"] == [[10, right] for right in hits]
    lists = zip(part["typical"], range(6), strict=True)
    assert all(part["labels"][i] == label for typical, label in lists for i in typical)


def test_the_most_frequent_pairs_are_listed(monkeypatch):
    embeddings, labels = clusters(60, 6)
    whole, _ = data_of(embeddings, labels)
    monkeypatch.setattr("rhs.report.explorer.page_data._PAIRS", 2)
    data, _ = data_of(embeddings, labels)
    assert data["pairs"] == whole["pairs"][:2]
    assert data["pairs_in_all"] == len(whole["pairs"]) > 2


def test_a_sample_of_classes_that_all_are_too_large_is_random_images_of_the_smallest():
    labels = np.repeat([0, 1], [3000, 2000])
    chosen = choose_shown(labels, 100)
    assert len(chosen) == 100
    assert (labels[chosen] == 1).all()
    assert chosen[-1] > 4000  # not the first ones


def test_pictures_are_bounded_and_the_nearest_neighbors_have_theirs(monkeypatch):
    embeddings, labels = clusters(300, 30)
    shown = np.arange(0, 300, 10)
    monkeypatch.setattr("rhs.report.explorer.page_data._PICTURES", 100)
    data, _ = data_of(embeddings, labels, shown)
    blank = data["pictures"].index(_BLANK)
    assert len(data["pictures"]) <= 101
    assert all(data["thumbs"][image] != blank for image in data["queries"])
    assert all(data["thumbs"][row[0]] != blank for row in data["neighbors"])
    assert any(data["thumbs"][row[-1]] == blank for row in data["neighbors"])


def test_equal_pictures_are_stored_once():
    embeddings, labels = clusters(20, 4)
    images = FakeImages(labels)
    images.bytes = lambda i: FakeImages(labels).bytes(i % 3)
    data = build_page_data(images, search(embeddings, labels, None, 3), np.arange(20), None, {})
    assert len(data["pictures"]) == 3
    assert data["thumbs"][3:6] == data["thumbs"][:3] == [0, 1, 2]


@pytest.mark.parametrize("sided", [False, True])
def test_hits_agree_with_the_scores_even_where_all_tie(sided):
    embeddings, labels = clusters(90, 6)
    queries = np.arange(90) % 5 == 0 if sided else None
    for rows in (embeddings, np.ones_like(embeddings), np.repeat(embeddings[:30], 3, axis=0)):
        found = search(rows, labels, queries, NEIGHBORS)
        expected = score(rows, labels, (1,), queries).values["recall@1"]
        assert found.recall == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("sided", [False, True])
@pytest.mark.parametrize("collapsed", [False, True])
def test_few_rows_at_a_time_find_the_same(monkeypatch, sided, collapsed):
    embeddings, labels = clusters(90, 2)
    if collapsed:
        embeddings = np.ones_like(embeddings)
    queries = np.arange(90) % 5 == 0 if sided else None
    whole = search(embeddings, labels, queries, 3)
    monkeypatch.setattr("rhs.metrics.retrieval_results._BUDGET", 300)  # 3 rows of all, 6 of a class
    part = search(embeddings, labels, queries, 3)
    assert part.hit_Q.tolist() == whole.hit_Q.tolist()
    assert part.right_s_Q == pytest.approx(whole.right_s_Q, abs=1e-6)
    right = part.right_i_Q
    assert (right != part.asking_Q).all()
    assert (labels[right] == labels[part.asking_Q]).all()
    rows = np.flatnonzero(whole.failing_Q)
    assert part.ranks(rows).tolist() == whole.ranks(rows).tolist()


def test_typical_images_are_the_ones_nearest_to_their_class_mean():
    embeddings, labels = clusters(60, 6)
    data, _ = data_of(embeddings, labels)
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    for label, typical in enumerate(data["typical"]):
        likeness = np.where(labels == label, unit @ unit[labels == label].mean(axis=0), -9)
        assert typical == np.argsort(-likeness)[:5].tolist()


def test_data_cannot_leave_its_element():
    text = as_json({"a": f"</script><!--<script>{NASTY}\u2028"})
    assert "<" not in text
    assert json.loads(text) == {"a": f"</script><!--<script>{NASTY}\u2028"}


def test_the_digest_knows_the_data_and_not_the_run():
    _, labels = clusters(20, 4)
    same = data_digest(FakeImages(labels)), data_digest(FakeImages(labels, size=(9, 9)))
    assert same[0] == same[1]
    queries = np.arange(20) < 9
    others = {
        data_digest(FakeImages(labels[::-1])),
        data_digest(FakeImages(labels, queries=queries)),
    }
    assert len(others | {same[0]}) == 3


def test_the_report_says_what_the_explorer_leaves_out(tmp_path):
    write(tmp_path, *clusters(60, 6), settings={"explorer_images": 25})
    page = (tmp_path / "explorer.html").read_text()
    start = page.index('id="explorer-data">') + len('id="explorer-data">')
    data = json.loads(page[start : page.index("<", start)])
    assert len(data["queries"]) == 20
    assert len(data["map"]["images"]) == 20
    assert (data["about"]["queries"], data["about"]["images"]) == (60, 60)
    assert page.count("</script>") == 2
