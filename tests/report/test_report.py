"""The report's pages as a whole."""

from __future__ import annotations

import re

import numpy as np
import pytest
from pages import NASTY, FakeImages, clusters, write

from rhs.errors import UserError
from rhs.metrics.retrieval import score
from rhs.metrics.retrieval_results import search
from rhs.report.run.gallery import worst_failures
from rhs.report.run.page import FAILURES_SHOWN


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


def test_failures_are_the_wrong_queries_worst_first(pages):
    _, page = pages
    embeddings, labels = clusters(60, 6)
    found = search(embeddings, labels, None, 10)
    failures, in_all = worst_failures(FakeImages(labels), found, count=1000)
    scores = score(embeddings, labels, [1]).values
    assert found.recall == pytest.approx(scores["recall@1"])
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
                    "explorer.html",
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
    for expected in (
        "62.5 %",
        "87.5 %",
        "100.0 %",
        "+50.0 over untrained",
        "1,234 images",
        "53 images were refused",
        "and 3 more",
        "Odd images, kept",
        "and 1 more",
        "RGBA -> RGB",
        "DejaVu, STIX",
        "model.widths",
        "highest 75.0 % at K = 1, epoch 1",
    ):
        assert expected in text, expected
    assert f"{NASTY}50" not in text


def test_the_same_arguments_give_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / name, *clusters(24, 4))
    for page in ("index.html", "failures.html", "explorer.html"):
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


def test_the_pages_search_once(tmp_path, monkeypatch):
    """Gallery, failures and explorer show what one search of the test images has found."""
    from rhs.metrics import neighbors as neighbors_module
    from rhs.metrics import retrieval_results as search_module

    calls = {"rank": 0, "unit_rows": 0}

    def counting(module, name):
        real = getattr(module, name)

        def counted(*arguments, **more):
            calls[name] += 1
            return real(*arguments, **more)

        monkeypatch.setattr(module, name, counted)

    counting(neighbors_module, "rank")
    counting(neighbors_module, "unit_rows")
    counting(search_module, "unit_rows")
    write(tmp_path, *clusters(60, 6))
    assert calls == {"rank": 1, "unit_rows": 1}
