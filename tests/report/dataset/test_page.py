"""The page of a data set: from shards alone, whole, and true to them."""

from __future__ import annotations

import csv
from pathlib import Path

import pandas as pd
import pytest
from pages import NASTY, Tags
from photos import EDITS, encoded, mirrored, photo, photo_shards

from rhs.errors import UserError
from rhs.report.dataset import duplicate_groups as copies_module
from rhs.report.dataset.page import SHEET_IMAGES, build_data_report

CLASSES = [f"{NASTY} {letter}" for letter in "abxyz"]


def planted() -> list[tuple[str, str, bytes]]:
    """Two of each class; near and exact copies across the splits and inside the test."""
    a, b, x, y, z = CLASSES
    rows = [("train", name, encoded(photo(seed))) for seed, name in enumerate([a, a, b])]
    rows += [("val", b + " val", encoded(photo(seed))) for seed in (20, 21)]
    rows += [("test", name, encoded(photo(seed))) for seed, name in enumerate([x, y, z, z], 10)]
    rows += [
        ("train", b, EDITS["encoded again"](photo(0))),  # of a
        ("test", x, encoded(photo(1), compress_level=1)),  # of a, exact
        ("test", y, EDITS["smaller"](photo(11))),
        ("test", y, mirrored(photo(12))),  # of z
    ]
    return sorted(rows, key=lambda row: ["train", "val", "test"].index(row[0]))


def build(out: Path, rows: list, mirror: bool = True, **manifest) -> tuple[Tags, list[dict], dict]:
    shards = photo_shards(out.with_name(f"{out.name}_shards"), rows, **manifest)
    counts = build_data_report(out=out, shards=shards, seed=3, mirrored=mirror)
    with (out / "duplicates.csv").open(newline="", encoding="utf-8") as stream:
        table = list(csv.DictReader(stream))
    # As pandas reads it, whatever a class is called.
    read = pd.read_csv(out / "duplicates.csv", dtype=str, keep_default_na=False)
    assert read.to_dict("records") == table
    return Tags((out / "index.html").read_text(encoding="utf-8")), table, counts


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    refused = [{"name": f"{NASTY}{i}", "class_name": "c", "why": "cut"} for i in range(53)]
    return build(
        tmp_path_factory.mktemp("data") / "report",
        planted(),
        refused=refused,
        converted={"RGBA -> RGB": 7},
        warnings=[f"Mind {NASTY}."],
    )


def test_it_needs_nothing_from_elsewhere(built):
    page, _, _ = built
    for tag, attributes in page.tags:
        assert tag not in ("script", "link") or attributes.get("rel") == "icon"
        for name in ("src", "href", "xlink:href", "srcset"):
            target = attributes.get(name, "data:")
            assert target.startswith(("data:", "#")) or target == "duplicates.csv"
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    links = [a.get(name, "") for _, a in page.tags for name in ("href", "xlink:href")]
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)


def test_names_are_escaped(built):
    page, _, _ = built
    assert not [tag for tag, _ in page.tags if tag == "b"]
    assert f"Mind {NASTY}." in page.text
    assert any(a.get("alt") == CLASSES[0] for _, a in page.tags)


def test_counts_are_those_of_what_was_planted(built):
    page, table, counts = built
    assert counts == {
        "leak": 2,
        "free": 2,
        "conflict": 2,
        "one_side": 0,
        "train_conflict": 2,
        "train_same": 0,
    }
    for said in (
        "13 images of 6 classes; 53 images were refused",
        "28.6 %",
        "2 of 7 queries have a copy, 0 exact",
        "RGBA -> RGB",
        "and 3 more, all listed",
        "None found: on one side of the search, same class in training.",
    ):
        assert said in page.text, said
    assert f"{NASTY}49" in page.text
    assert f"{NASTY}50" not in page.text
    groups: dict[str, list[dict]] = {}
    for row in table:
        groups.setdefault(row["group"], []).append(row)
    said = [
        (
            sorted(row["split"] for row in group),
            {row["exact_copies"] + "|" + row["near_copies"] for row in group},
            {row["mirrored"] for row in group},
        )
        for group in groups.values()
    ]
    assert said == [
        (["train", "train"], {"|train_conflict"}, {"0"}),
        (["test", "train"], {"leak|"}, {"0"}),
        (["test", "test"], {"|free"}, {"0"}),
        (["test", "test"], {"|conflict"}, {"1"}),
    ]
    exact = groups["1"]
    assert len({row["pixels"] for row in exact}) == 1
    assert len({row["sha256"] for row in exact}) == 2
    assert {row["class"] for row in exact} == {CLASSES[0], CLASSES[2]}


def test_mirror_images_count_only_if_training_mirrors(built, tmp_path):
    page, table, counts = build(tmp_path / "report", planted(), mirror=False)
    assert counts["conflict"] == 0
    assert len(table) == 6
    assert "Mirror images do not count" in page.text
    assert "Mirror images do not count" not in built[0].text


def test_the_same_shards_and_seed_give_the_same_bytes(tmp_path):
    shards = photo_shards(tmp_path / "shards", planted())
    written = []
    for out, seed in (("a", 1), ("b", 1), ("c", 2)):
        build_data_report(out=tmp_path / out, shards=shards, seed=seed, mirrored=True)
        written.append(
            [(tmp_path / out / file).read_bytes() for file in ("index.html", "duplicates.csv")]
        )
    assert written[0] == written[1]
    assert written[0][1] == written[2][1]


def sheet(page: str, split: str) -> list[str]:
    """Names of the images on a contact sheet."""
    start = page.index(f'id="sheet-{split}"')
    part = page[start : page.index("</section>", start)].split('class="card stacked"')[0]
    return [a["title"] for tag, a in Tags(part).tags if tag == "img"]


def test_each_class_has_its_turn_on_a_contact_sheet(tmp_path):
    rows = [("train", f"c{i % 50:02d}", encoded(photo(i, (24, 18)))) for i in range(150)]
    rows = sorted(rows)
    rows += [("test", f"x{i % 2}", encoded(photo(i + 500, (24, 18)))) for i in range(4)]
    build(tmp_path / "report", rows)
    names = sheet((tmp_path / "report" / "index.html").read_text(encoding="utf-8"), "train")
    classes = [name.split("/")[0] for name in names]
    assert len(set(names)) == len(names) == SHEET_IMAGES
    assert len(set(classes)) == 50
    assert max(map(classes.count, classes)) == 2
    assert classes == sorted(classes)


def test_queries_and_gallery_have_a_sheet_each(tmp_path):
    rows = [("train", name, encoded(photo(i))) for i, name in enumerate("aabb")]
    rows += [("query", name, encoded(photo(i))) for i, name in enumerate("xy", 10)]
    rows += [("gallery", name, encoded(photo(i))) for i, name in enumerate("xyy", 20)]
    rows.append(("gallery", "x", encoded(photo(10), "JPEG", quality=50)))
    split = {"classes": 2, "images": 6, "singletons": 0, "queries": 2, "gallery": 4}
    none = {"classes": 0, "images": 0, "singletons": 0}
    splits = {"train": {"classes": 2, "images": 4, "singletons": 0}, "val": none, "test": split}
    page, table, _ = build(tmp_path / "report", rows, splits=splits)
    text = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert len(sheet(text, "query")) == 2
    assert len(sheet(text, "gallery")) == 4
    assert 'id="sheet-test"' not in text
    assert 'id="sheet-val"' not in text
    assert "2 queries, 4 in the gallery" in page.text
    assert "1 of 2 queries have a copy, 0 exact" in page.text
    assert {row["near_copies"] for row in table} == {"free"}


def test_what_is_not_shown_is_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(copies_module, "GROUPS_SHOWN", 2)
    monkeypatch.setattr(copies_module, "MEMBERS_SHOWN", 3)
    rows = [("train", "a", encoded(photo(seed))) for seed in range(60, 63)]
    rows.append(("train", "b", encoded(photo(63))))
    rows += [("test", "x", encoded(photo(0), compress_level=level)) for level in range(5)]
    for seed in (1, 2, 3):
        rows += [("test", "y", encoded(photo(seed))), ("test", "y", EDITS["gray"](photo(seed)))]
    page, table, counts = build(tmp_path / "report", rows)
    assert counts["free"] == len(table) == 11
    assert "4 groups, 2 of them not shown" in page.text
    assert page.text.count("and 2 more") == 1  # of the five, which come first
    assert "9 of 11 queries" not in page.text
    assert "11 of 11 queries have a copy, 5 exact" in page.text


def test_a_group_across_splits_shows_both(tmp_path):
    rows = [
        ("train", name, encoded(photo(0), compress_level=level))
        for level, name in enumerate("aabcdefgh")
    ]
    rows += [("train", "i", encoded(photo(5))), ("test", "y", encoded(photo(6)))]
    rows += [("test", "x", EDITS["gray"](photo(0))), ("test", "x", encoded(photo(7)))]
    page, _, _ = build(tmp_path / "report", rows)
    text = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    start = text.index('<section id="leak">')
    shown = Tags(text[start : text.index("</section>", start)])
    assert [a["alt"] for tag, a in shown.tags if tag == "img"] == ["a", "x", "b", "c", "d"]
    assert "and 5 more" in page.text


def test_without_copies_it_says_so(tmp_path):
    rows = [("train", name, encoded(photo(i))) for i, name in enumerate("aabb")]
    rows += [("test", name, encoded(photo(i))) for i, name in enumerate("xxyy", 10)]
    page, table, counts = build(tmp_path / "report", rows)
    assert table == []
    assert not any(counts.values())
    assert "None found: seen in training, free answers, no right label" in page.text
    assert "0 of 4 queries have a copy, 0 exact" in page.text
    assert "No image was refused." in page.text


def test_extremes_are_named(tmp_path):
    sizes = [(60, 60), (20, 50), (90, 80), (100, 10), (60, 60)]
    rows = [("train", name, encoded(photo(i))) for i, name in enumerate("aab")]
    rows += [("test", "x", encoded(photo(10 + i, size))) for i, size in enumerate(sizes)]
    page, _, _ = build(tmp_path / "report", rows)
    text = "".join(page.text.split())
    for said in (
        "Smallest class b images: 1",
        "Largest class x images: 5",
        "Smallest image x 20 × 50 pixels",
        "Largest image a 120 × 90 pixels",
        "Most elongated x 100 × 10 pixels",
    ):
        assert said.replace(" ", "") in text, said


def test_without_shards_it_says_what_to_do(tmp_path):
    with pytest.raises(UserError, match="run the preprocess stage first"):
        build_data_report(out=tmp_path / "out", shards=tmp_path, seed=0, mirrored=True)
    assert not (tmp_path / "out").exists()
