"""The kinds of index: chosen by size, refused where impossible, and their stated recall."""

from dataclasses import asdict

import faiss
import numpy as np
import pytest
from searchable import unit
from tiny_project import composed

from rhs.errors import UserError
from rhs.inference.faiss_index import (
    DEFAULTS,
    check_index_settings,
    choose_kind,
    create_index,
    recall_against_exact,
)

MANY = 9984  # the fewest that IVF-PQ takes


@pytest.fixture(scope="module")
def many():
    return unit(MANY, 16)


def test_the_configuration_is_what_is_taken_without_one():
    assert check_index_settings(asdict(composed().index)) == check_index_settings({}) == DEFAULTS


def test_the_kind_is_chosen_by_size_unless_told():
    settings = check_index_settings({"flat_up_to": 10, "hnsw_up_to": 20})
    assert [choose_kind(n, settings) for n in (1, 10, 11, 20, 21)] == [
        "flat",
        "flat",
        "hnsw",
        "hnsw",
        "ivf_pq",
    ]
    assert choose_kind(1, check_index_settings({"kind": "hnsw"})) == "hnsw"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"kind": "lsh"}, "index.kind is 'lsh'; accepted: auto, flat, hnsw, ivf_pq"),
        ({"thumbnails": 3}, "index.thumbnails is unknown; accepted: splits, kind"),
        ({"thumbnail": -1}, "index.thumbnail is -1"),
        ({"splits": []}, r"index.splits is \[\]; it must be a list such as .train, val, test"),
        ({"splits": ["test", "test"]}, "each of them once"),
        ({"splits": "test"}, "index.splits is 'test'"),
        ({"splits": ["dev"]}, "index.splits is 'dev'; accepted: train"),
        ({"hnsw": {"M": 1}}, "index.hnsw.M is 1"),
        ({"hnsw": {"m": 1}}, "index.hnsw.m is unknown; accepted: M"),
        ({"hnsw": 3}, "index.hnsw is 3; it must be a group"),
        ({"ivf_pq": {"nprobe": None}}, "index.ivf_pq.nprobe is None"),
        ({"ivf_pq": {"nlist": 2.5}}, "index.ivf_pq.nlist is 2.5"),
        ({"seed": "a"}, "index.seed is 'a'"),
    ],
)
def test_wrong_settings_are_refused(settings, said):
    with pytest.raises(UserError, match=said):
        check_index_settings(settings)


@pytest.mark.parametrize(
    ("n", "settings", "said"),
    [
        (MANY - 1, {}, "needs 9,984 images for that; there are 9,983: take flat or hnsw"),
        (MANY, {"nlist": 257}, "index.ivf_pq.nlist is 257; 9,984 images can fill 256"),
        (MANY, {"m": 7}, "7, which does not divide the 16 dimensions .*; 4 does"),
    ],
)
def test_what_ivf_pq_cannot_hold(many, n, settings, said):
    with pytest.raises(UserError, match=said):
        create_index("ivf_pq", many[:n], check_index_settings({"ivf_pq": settings}))


def test_what_cannot_be_is_refused_before_there_are_vectors():
    ivf_pq = {"kind": "ivf_pq"}
    with pytest.raises(UserError, match="there are 9,983: take flat or hnsw"):
        check_index_settings(ivf_pq, images=MANY - 1, dim=16)
    with pytest.raises(UserError, match="127 dimensions have none between 16 and 63: take hnsw"):
        check_index_settings(ivf_pq, images=MANY, dim=127)
    assert check_index_settings(ivf_pq, images=MANY, dim=16) == check_index_settings(ivf_pq)
    assert check_index_settings({}, images=3, dim=127)["kind"] == "auto"


def test_a_single_image_has_no_neighbor():
    assert recall_against_exact(
        create_index("flat", unit(1, 4), check_index_settings({})), unit(1, 4), 0
    ) == (1.0, 0)


def test_codes_that_fit_are_chosen_for_any_dimension(monkeypatch):
    monkeypatch.setattr("rhs.inference.faiss_index.PER_CODEWORD", 1)
    x_ND = unit(300, 15)
    index = create_index("ivf_pq", x_ND, check_index_settings({"ivf_pq": {"nlist": 2}}))
    assert index.pq.M == 5  # the largest divisor of 15 up to 15 / 2
    assert (index.ntotal, index.nprobe) == (300, 2)


@pytest.mark.parametrize(("kind", "least"), [("flat", 1.0), ("hnsw", 0.95), ("ivf_pq", 0.3)])
def test_the_stated_recall_is_that_of_a_brute_force_count(many, kind, least):
    index = create_index(kind, many, check_index_settings({}))
    assert index.metric_type == faiss.METRIC_INNER_PRODUCT
    stated, queries = recall_against_exact(index, many, seed=3)
    assert (index.ntotal, queries) == (MANY, 1000)
    asking = np.sort(np.random.default_rng(3).permutation(MANY)[:1000])
    similarities = many[asking] @ many.T
    similarities[np.arange(1000), asking] = -2
    exact = np.argsort(-similarities, axis=1)[:, :10]
    _, found = index.search(many[asking], 11)
    hits = 0
    for query, right, row in zip(asking, exact, found, strict=True):
        others = [i for i in row if i != query][:10]
        hits += len(set(right) & set(others))
    assert stated == pytest.approx(hits / 10_000, abs=2e-4)
    assert stated >= least
    if kind != "flat":
        assert stated < 1, "an approximate index that misses nothing tests nothing"


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf_pq"])
def test_the_same_vectors_and_seed_give_the_same_index(many, kind, monkeypatch):
    monkeypatch.setattr(
        "rhs.inference.faiss_index.PER_CODEWORD", 4
    )  # faiss would like more, and takes them
    x_ND, few = many[:2048], {"nlist": 16}
    before = faiss.omp_get_max_threads()
    threads = 2 if kind == "hnsw" else before  # which would race, were they let
    faiss.omp_set_num_threads(threads)
    try:
        one, same, other = (
            faiss.serialize_index(
                create_index(kind, x_ND, check_index_settings({"seed": seed, "ivf_pq": few}))
            )
            for seed in (0, 0, 1)
        )
        assert faiss.omp_get_max_threads() == threads, "restored"
    finally:
        faiss.omp_set_num_threads(before)
    assert np.array_equal(one, same)
    # The others learn nothing from a sample: all of these vectors set the ranges of 8 bits.
    assert np.array_equal(one, other) == (kind != "ivf_pq")


def test_copies_stand_in_for_each_other():
    """Thirty copies of each image: which ten are found says nothing."""
    x_ND = unit(40, 8).repeat(30, axis=0)
    index = create_index("flat", x_ND, check_index_settings({}))
    assert recall_against_exact(index, x_ND, seed=0) == (1.0, 1000)


def test_an_index_of_other_vectors_finds_little():
    x_ND = unit(400, 16)
    index = create_index("flat", x_ND[::-1], check_index_settings({}))
    recall, queries = recall_against_exact(index, x_ND, seed=0)
    assert queries == 400
    assert recall < 0.2


def test_two_images_have_one_neighbor_each():
    x_ND = unit(2, 4)
    assert recall_against_exact(
        create_index("flat", x_ND, check_index_settings({})), x_ND, seed=0
    ) == (1.0, 2)
