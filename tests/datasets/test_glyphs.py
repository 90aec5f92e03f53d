"""The embedded data set: the same bytes every time, and no image that answers for another."""

import io
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from rhs.datasets.glyphs import class_name, fetch
from rhs.datasets.raw_folder import read_raw


@pytest.fixture(scope="module")
def glyphs(tmp_path_factory):
    raw = tmp_path_factory.mktemp("data") / "glyphs"
    made = fetch(raw, "here")
    index, description = read_raw(raw)
    assert made == description
    return raw, index.to_pylist(), made


@pytest.fixture(scope="module")
def pixels(glyphs):
    raw, rows, _ = glyphs
    tar = memoryview((raw / "glyphs.tar").read_bytes())
    return {
        row["name"]: np.asarray(Image.open(io.BytesIO(tar[row["offset"] :][: row["size"]])))
        for row in rows
    }


def test_shape_of_the_data_set(glyphs):
    _, rows, made = glyphs
    sizes = Counter(row["class_name"] for row in rows)
    assert made["notes"]["faces"] == 21
    assert made["notes"]["characters_covered"] == 2407
    assert 2000 < len(sizes) < 2300
    assert 24_000 < len(rows) < 33_000
    assert 2 <= min(sizes.values()) <= max(sizes.values()) <= 21
    assert sizes["U+00041 LATIN CAPITAL LETTER A"] == 21


def test_every_drawing_is_accounted_for(glyphs):
    _, rows, made = glyphs
    notes = made["notes"]
    dropped = ("ambiguous_drawings", "same_face_drawings", "copies_between_faces")
    assert notes["drawings"] == (
        len(rows) + sum(notes[key] for key in dropped) + notes["single_drawings"]
    )
    classes = notes["characters"] - notes["merged_characters"] - notes["classes_dropped"]
    assert classes == made["classes"]


def test_no_two_images_are_identical(pixels):
    assert len({image.tobytes() for image in pixels.values()}) == len(pixels)


def test_alike_characters_are_one_class_and_unlike_ones_are_not(glyphs):
    names = {row["class_name"] for row in glyphs[1]}
    assert not {class_name(ord(c)) for c in "\u0391\u0410"} & names  # Alpha, Cyrillic A
    assert {class_name(ord(c)) for c in "mт"} <= names  # alike in one italic only
    assert not {class_name(ord(c)) for c in " \xa0"} & names  # no ink


def test_images_are_centered_ink_on_white(pixels):
    for image in list(pixels.values())[::97]:
        assert image.shape == (48, 48)
        assert image.dtype == np.uint8
        rows, columns = np.nonzero(image != 255)
        assert abs(rows.min() + rows.max() - 47) <= 1
        assert abs(columns.min() + columns.max() - 47) <= 1


def test_letters_keep_their_relative_size(pixels):
    def height(character: str) -> int:
        name = class_name(ord(character))
        return int((pixels[f"{name}/DejaVuSans-Bold.png"] != 255).any(axis=1).sum())

    assert height("-") < height("o") < height("O") < height("|")


def test_computer_modern_draws_the_character_that_it_is_named_after(glyphs):
    # In TeX's code the place of "<" holds an inverted exclamation mark.
    names = {row["name"] for row in glyphs[1]}
    assert f"{class_name(ord('<'))}/cmr10.png" not in names
    assert f"{class_name(ord('g'))}/cmr10.png" in names


def test_class_names_sort_by_code_point():
    assert class_name(0x41) == "U+00041 LATIN CAPITAL LETTER A"
    assert class_name(0x41) < class_name(0x2100) < class_name(0x1D400)


def test_bytes_are_the_same_from_run_to_run(tmp_path):
    for run in ("first", "second"):
        fetch(tmp_path / run, "here", size=20, min_faces=17)
    for file in ("glyphs.tar", "index.parquet"):
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()
