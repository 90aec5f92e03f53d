"""Copies are found whatever was done to them; what is merely similar is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from photos import EDITS, encoded, mirrored, photo, photo_shards
from PIL import Image, ImageDraw

from rhs.data.shards import load_manifest
from rhs.report.dataset import near_copies
from rhs.report.dataset.duplicates import (
    KEYS,
    find_copies,
    kind_of_pair,
    queries_with_answers,
)
from rhs.report.dataset.fingerprints import SPLITS, read_fingerprints
from rhs.report.dataset.near_copies import CORRELATION, DIFFERENCE
from rhs.report.dataset.thumbnail_alignment import compare, normalized

Row = tuple[str, str, bytes]
OTHERS: list[Row] = [
    (split, name, encoded(photo(seed)))
    for seed, (split, name) in enumerate(
        [("train", "a"), ("train", "b"), ("val", "c"), ("test", "x"), ("test", "y")], start=100
    )
]


def found(tmp_path: Path, rows: list[Row], mirrored: bool = True):
    """The copies among OTHERS and these rows, and the place of each of these rows."""
    order = sorted(OTHERS + rows, key=lambda row: min(SPLITS.index(row[0]), 2))
    folder = photo_shards(tmp_path / "shards", order)
    images = read_fingerprints(folder, load_manifest(folder))
    return images, find_copies(images, mirrored), [order.index(row) for row in rows]


def kinds(flag_K: np.ndarray) -> set[str]:
    return {key for key, there in zip(KEYS, flag_K, strict=True) if there}


@pytest.mark.parametrize("edit", EDITS)
def test_a_copy_is_found_across_splits(tmp_path, edit):
    rows = [("train", "a", encoded(photo(0))), ("test", "x", EDITS[edit](photo(0)))]
    _, copies, places = found(tmp_path, rows)
    assert copies.group_N[places].tolist() == [0, 0]
    assert (copies.group_N >= 0).sum() == 2
    assert not copies.exact_NK.any()
    assert [kinds(flags) for flags in copies.near_NK[places]] == [{"leak"}] * 2
    leak = copies.correlation_NK[places, KEYS.index("leak")]
    assert CORRELATION <= leak.min() <= leak.max() <= 1
    assert not copies.mirrored_NK.any()


def test_mirror_images_count_where_they_show_the_same(tmp_path):
    rows = [("test", "x", encoded(photo(0))), ("test", "x", mirrored(photo(0)))]
    _, copies, places = found(tmp_path / "yes", rows)
    assert [kinds(flags) for flags in copies.near_NK[places]] == [{"free"}] * 2
    assert copies.mirrored_NK[places].any(axis=1).all()
    _, copies, _ = found(tmp_path / "no", rows, mirrored=False)
    assert (copies.group_N == -1).all()


def test_a_picture_that_is_its_own_mirror_image_has_no_copy(tmp_path):
    half = photo(0)
    both = np.concatenate([np.asarray(half), np.asarray(half)[:, ::-1]], axis=1)
    _, copies, _ = found(tmp_path, [("test", "x", encoded(Image.fromarray(both)))])
    assert (copies.group_N == -1).all()


def test_a_pair_that_is_alike_both_ways_is_told_once():
    rows = np.asarray(photo(0).convert("L").resize((16, 32)))
    picture = np.concatenate([rows, rows[:, ::-1]], axis=1)
    noise = np.random.default_rng(0).integers(-2, 3, picture.shape)
    two = np.stack([picture, (picture + noise).clip(0, 255).astype(np.uint8)])
    for grays in (two, two[:, ::-1]):
        pairs = list(near_copies.near_pairs(grays, np.arange(2), mirrored=True))
        assert [(a, b, flipped) for a, b, _, flipped in pairs] == [(0, 1, False)]


def test_exact_copies_are_the_same_pixels_in_any_file(tmp_path):
    picture = photo(0)
    rows = [
        ("train", "a", encoded(picture)),
        ("test", "x", encoded(picture)),
        ("test", "x", encoded(picture, compress_level=1)),
        ("test", "y", encoded(picture, "BMP")),
    ]
    images, copies, places = found(tmp_path, rows)
    assert len(set(images.pixels_N[places])) == 1
    assert len({images.sha256[i] for i in places}) == 3
    exact = [kinds(flags) for flags in copies.exact_NK[places]]
    assert exact == [{"leak"}, *[{"leak", "free", "conflict"}] * 2, {"leak", "conflict"}]
    assert not copies.near_NK.any()
    assert (copies.correlation_NK[places].max(axis=1) == 1).all()


def test_near_copies_of_exact_copies(tmp_path):
    rows = [
        ("train", "a", encoded(photo(0))),
        ("train", "a", encoded(photo(0), compress_level=1)),
        ("test", "x", EDITS["smaller"](photo(0))),
    ]
    _, copies, places = found(tmp_path, rows)
    assert copies.group_N[places].tolist() == [0, 0, 0]
    assert [kinds(flags) for flags in copies.exact_NK[places]] == [*[{"train_same"}] * 2, set()]
    assert [kinds(flags) for flags in copies.near_NK[places]] == [{"leak"}] * 3


def test_different_scenes_are_no_copies(tmp_path):
    rows = [("test", "x", encoded(photo(seed))) for seed in range(40)]
    _, copies, _ = found(tmp_path, rows)
    assert (copies.group_N == -1).all()


def letter(mark: tuple[int, int, int, int], width: int = 34) -> bytes:
    """An E with a mark above it."""
    image = Image.new("L", (48, 48), 255)
    draw = ImageDraw.Draw(image)
    for box in ((10, 12, 17, 46), (10, 12, width, 19), (10, 26, 30, 32), (10, 39, width, 46), mark):
        draw.rectangle(box, fill=0)
    return encoded(image)


def test_one_thing_that_stands_out_makes_another_picture(tmp_path):
    dot, stroke = (21, 4, 25, 8), (22, 3, 24, 9)
    rows = [
        ("test", "x", letter(dot)),
        ("test", "y", letter(stroke)),
        ("test", "x", letter(dot, 35)),
    ]
    images, copies, places = found(tmp_path, rows)
    thumbnails = normalized(images.gray_NHW[places])
    correlations, differences = compare(thumbnails[[0, 0]], thumbnails[1:])
    assert (correlations > CORRELATION).all()  # alike, all of them
    assert differences[1] < DIFFERENCE < differences[0]
    assert copies.group_N[places].tolist() == [0, -1, 0]


def test_blank_pages_are_copies_only_if_they_are_equal(tmp_path):
    shades = [Image.new("L", (60, 80), shade) for shade in (250, 251, 252, 252)]
    rows = [("test", "x", encoded(page, compress_level=i)) for i, page in enumerate(shades)]
    _, copies, places = found(tmp_path, rows)
    assert copies.group_N[places].tolist() == [-1, -1, 0, 0]
    assert [kinds(flags) for flags in copies.exact_NK[places[2:]]] == [{"free"}] * 2


def test_what_is_left_in_a_blank_page_is_no_picture(tmp_path):
    rows = []
    for shade in (200, 240):
        page = Image.new("L", (60, 80), shade)
        page.paste(shade + 2, (0, 0, 30, 80))
        rows.append(("test", "x", encoded(page)))
    _, copies, _ = found(tmp_path, rows)
    assert (copies.group_N == -1).all()


def test_more_copies_than_neighbors_make_one_group(tmp_path, monkeypatch):
    monkeypatch.setattr(near_copies, "NEIGHBORS", 3)
    rows = [
        ("test", "x", encoded(photo(0), "JPEG", quality=quality)) for quality in range(50, 90, 4)
    ]
    _, copies, places = found(tmp_path, rows)
    assert set(copies.group_N[places]) == {0}
    assert copies.near_NK[places, KEYS.index("free")].all()


def test_each_of_many_copies_of_a_training_image_is_told(tmp_path, monkeypatch):
    """Though the nearest of each are the other copies, and not the one in training."""
    monkeypatch.setattr(near_copies, "NEIGHBORS", 3)
    rows = [
        ("test", "x", encoded(photo(0), "JPEG", quality=quality)) for quality in range(70, 90, 2)
    ]
    rows.append(("train", "a", encoded(photo(0), "JPEG", quality=20)))
    _, copies, places = found(tmp_path, rows)
    assert copies.near_NK[places, KEYS.index("leak")].all()


@pytest.mark.parametrize(
    ("split", "other", "same", "different"),
    [
        ("train", "test", "leak", "leak"),
        ("gallery", "val", "leak", "leak"),
        ("train", "val", "train_same", "train_conflict"),
        ("train", "train", "train_same", "train_conflict"),
        ("test", "test", "free", "conflict"),
        ("query", "gallery", "free", "conflict"),
        ("gallery", "gallery", "one_side", "conflict"),
        ("query", "query", "one_side", "conflict"),
    ],
)
def test_what_a_pair_means(split, other, same, different):
    i, j = (np.array([SPLITS.index(name)] * 2) for name in (split, other))
    for one, two in ((i, j), (j, i)):
        pair = kind_of_pair(one, two, np.array([True, False]))
        assert [KEYS[kind] for kind in pair] == [same, different]


def test_queries_and_gallery(tmp_path):
    rows = [
        ("query", "p", encoded(photo(0))),
        ("query", "p", EDITS["smaller"](photo(0))),
        ("query", "q", encoded(photo(1))),
        ("query", "r", encoded(photo(2))),
        ("gallery", "p", EDITS["gray"](photo(0))),
        ("gallery", "q", encoded(photo(3))),
    ]
    folder = photo_shards(tmp_path / "shards", [*OTHERS[:2], *rows])
    images = read_fingerprints(folder, load_manifest(folder))
    copies = find_copies(images, mirrored=False)
    assert [kinds(flags) for flags in copies.near_NK[2:]] == [
        *[{"free", "one_side"}] * 2,
        set(),
        set(),
        {"free"},
        set(),
    ]
    assert queries_with_answers(images).tolist() == [False] * 2 + [True] * 3 + [False] * 3


def test_test_images_ask_for_others_of_their_class(tmp_path):
    images, _, places = found(tmp_path, [("test", "x", encoded(photo(0)))])
    other = next(
        i for i, name in enumerate(images.names) if name.startswith("x/") and i not in places
    )
    assert np.flatnonzero(queries_with_answers(images)).tolist() == sorted([other, *places])


def test_nothing_alike_at_all():
    random = np.random.default_rng(0).integers(0, 256, (5, 32, 32), dtype=np.uint8)
    assert list(near_copies.near_pairs(random, np.arange(5), mirrored=True)) == []
    blank = np.full((3, 32, 32), 7, dtype=np.uint8)
    assert list(near_copies.near_pairs(blank, np.arange(3), mirrored=True)) == []


def test_the_search_misses_no_pair(tmp_path):
    """Against comparing each with each."""
    rows = [("test", "x", encoded(photo(seed))) for seed in range(6)]
    rows += [("test", "x", edit(photo(seed))) for seed in range(3) for edit in EDITS.values()]
    images, _, _ = found(tmp_path, rows)
    n = len(images)
    near = near_copies.near_pairs(images.gray_NHW, np.arange(n), mirrored=False)
    a, b = np.triu_indices(n, 1)
    x = normalized(images.gray_NHW)
    correlation, difference = compare(x[a], x[b])
    likely = np.einsum("phw,phw->p", x[a], x[b]) >= near_copies.CANDIDATE
    good = likely & (correlation >= CORRELATION) & (difference <= DIFFERENCE)
    assert good.sum() > 20
    assert sorted((i, j) for i, j, *_ in near) == sorted(zip(a[good], b[good], strict=True))
