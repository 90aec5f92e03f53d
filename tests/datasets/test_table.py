"""A table of images: what it says is what is indexed, and what it cannot mean is named."""

import hashlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fake_archives import Shelf

from rhs.data.splits import official_split
from rhs.datasets.raw_folder import read_raw
from rhs.datasets.table import fetch
from rhs.errors import UserError

LABELS = ("001", "002", "b", "c")


@pytest.fixture
def pictures(tmp_path) -> Path:
    """images/<label>_<n>.jpg, two of each of four labels."""
    (tmp_path / "images").mkdir()
    for label in LABELS:
        for n in (0, 1):
            (tmp_path / "images" / f"{label}_{n}.jpg").write_bytes(f"{label} {n}".encode())
    return tmp_path


def rows(*more: str, header: str = "path,label") -> str:
    """A CSV of all pictures; `more` are cells that each row gets too."""
    cells = "".join(f",{cell}" for cell in more)
    names = [f"images/{label}_{n}.jpg,{label}{cells}" for label in LABELS for n in (0, 1)]
    return "\n".join([header, *names, ""])


def made(folder: Path, text: str | bytes, name: str = "t.csv", **options) -> dict:
    data = text.encode() if isinstance(text, str) else text
    (folder / name).write_bytes(data)
    return fetch(folder / "data" / "raw", str(folder / name), Shelf(folder), **options)


def index(folder: Path) -> dict[str, dict]:
    return {row["name"]: row for row in read_raw(folder / "data" / "raw")[0].to_pylist()}


def refused(folder: Path, text: str, **options) -> dict[str, str]:
    """Name -> why of what is refused of a table whose other rows are right."""
    return {r["name"]: r["why"] for r in made(folder, text, **options)["refused"]}


def test_every_row_is_indexed_where_the_image_lies(pictures):
    told = made(pictures, rows())
    row = index(pictures)["images/001_1.jpg"]
    assert row["class_name"] == "001"
    assert row["file"] == str(pictures / "images" / "001_1.jpg")
    assert (row["offset"], row["size"]) == (0, 5)
    assert row["sha256"] == hashlib.sha256(b"001 1").hexdigest()
    assert (row["split"], row["values"]) == ("", None)
    assert (told["images"], told["classes"], told["refused"]) == (8, 4, [])
    assert told["notes"]["rows"] == 8


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + rows(),
        rows().replace("\n", "\r\n"),
        rows().rstrip("\n"),
        rows().replace("images/001_0.jpg,001", '"images/001_0.jpg","001"'),
        rows('"two, with\na new line"', header="path,label,note"),
        rows().replace("\n", "\n\n", 1),
    ],
    ids=["byte order mark", "CRLF", "no last newline", "quotes", "newline in quotes", "empty line"],
)
def test_the_same_table_in_other_writings(pictures, text):
    made(pictures, text)
    names = {name: row["class_name"] for name, row in index(pictures).items()}
    assert names == {f"images/{c}_{n}.jpg": c for c in LABELS for n in (0, 1)}


def test_parquet_says_the_same_as_csv(pictures):
    made(pictures, rows("train", "0.5", header="path,label,split,x"), values=["x"])
    from_csv = index(pictures)
    paths = [f"images/{c}_{n}.jpg" for c in LABELS for n in (0, 1)]
    labels = pa.array([c for c in LABELS for _ in (0, 1)]).dictionary_encode()
    table = {"path": paths, "label": labels, "split": ["Train"] * 8, "x": pa.array([0.5] * 8)}
    pq.write_table(pa.table(table), pictures / "t.parquet")
    fetch(pictures / "data" / "raw", str(pictures / "t.parquet"), Shelf(pictures), values=["x"])
    assert index(pictures) == from_csv
    assert from_csv["images/b_0.jpg"]["values"] == [0.5]


def test_parquet_labels_may_be_whole_numbers_and_nulls_are_refused(pictures):
    paths = [f"images/{c}_{n}.jpg" for c in LABELS for n in (0, 1)]
    table = {"path": paths, "label": pa.array([1, 1, 2, 2, 3, 3, 4, None]), "x": pa.array(range(8))}
    pq.write_table(pa.table(table), pictures / "t.parquet")
    raw = pictures / "data" / "raw"
    told = fetch(raw, str(pictures / "t.parquet"), Shelf(pictures), values=["x"])
    assert told["refused"] == [{"name": "images/c_1.jpg", "why": "no label: in row 8"}]
    assert index(pictures)["images/c_0.jpg"]["class_name"] == "4"
    assert index(pictures)["images/c_0.jpg"]["values"] == [6.0]


def test_splits_are_taken_as_the_table_has_them(pictures):
    splits = dict(zip(LABELS, ("train", " TRAIN", "query", "gallery"), strict=True))
    text = "path,label,split\n" + "".join(
        f"images/{c}_{n}.jpg,{c if c < 'b' else 'b'},{s}\n"
        for c, s in splits.items()
        for n in (0, 1)
    )
    text += "images/d.jpg,d,val\nimages/e.jpg,e,val\n"
    for name in "de":
        (pictures / "images" / f"{name}.jpg").write_bytes(name.encode())
    made(pictures, text)
    found = index(pictures).values()
    split = official_split([r["class_name"] for r in found], [r["split"] for r in found])
    assert split == {"001": "train", "002": "train", "b": "test", "d": "val", "e": "val"}
    assert index(pictures)["images/c_1.jpg"]["split"] == "gallery"


@pytest.mark.parametrize("options", [{"split": None}, {"split": "set"}, {}])
def test_a_table_without_splits_leaves_them_to_the_settings(pictures, options):
    column = {"set": "set"}.get(options.get("split"), "other")
    made(pictures, rows("", header=f"path,label,{column}"), **options)
    assert {row["split"] for row in index(pictures).values()} == {""}


@pytest.mark.parametrize("header", ["path, label , split", " path,label,split\t"])
def test_white_space_around_names_and_cells_does_not_count(pictures, header):
    text = rows("train ", header=header).replace("images/b_0.jpg,b", " images/b_0.jpg , b\u00a0")
    told = made(pictures, text)
    assert {row["split"] for row in index(pictures).values()} == {"train"}
    assert index(pictures)["images/b_0.jpg"]["class_name"] == "b"
    assert (told["classes"], told["refused"], told["notes"]) == (4, [], {"rows": 8})


@pytest.mark.parametrize(
    ("column", "split", "note"),
    [
        ("other", "split", "no column 'split': classes are split by name"),
        ("split", "split", "nothing in the column 'split': classes are split by name"),
        ("other", None, None),
    ],
)
def test_it_is_said_that_there_are_no_splits(pictures, capsys, column, split, note):
    told = made(pictures, rows("", header=f"path,label,{column}"), split=split)
    assert told["notes"].get("split") == note
    assert (f"table: {note}" in capsys.readouterr().out) == (note is not None)


def test_columns_of_other_names_and_another_root(pictures, tmp_path_factory):
    others = tmp_path_factory.mktemp("others")
    text = rows("2.5", "-1e3", header="file,class,angle,depth").replace("images/", "")
    text = text.replace("b_0.jpg", str(pictures / "images" / "b_0.jpg"))  # absolute
    options = {"path": "file", "label": "class", "values": ["depth", "angle"]}
    made(others, text, root=str(pictures / "images"), **options)
    assert index(others)["001_0.jpg"]["values"] == [-1000.0, 2.5]
    assert index(others)[str(pictures / "images" / "b_0.jpg")]["class_name"] == "b"
    made(
        others,
        text.replace("001_0.jpg", "../images/./001_0.jpg"),
        root=str(pictures / "images"),
        **options,
    )
    assert "../images/001_0.jpg" in index(others)


@pytest.mark.parametrize(
    ("row", "name", "why"),
    [
        ("images/gone.jpg,b", "images/gone.jpg", "missing: row 9 names it"),
        ("images,b", "images", "not a regular file"),
        ("images/b_0.jpg,b", "images/b_0.jpg", "listed twice: in rows 5 and 9"),
        ("images/../images/b_0.jpg,b", "images/../images/b_0.jpg", "listed twice: in rows 5 and 9"),
        (",b", "row 9", "no path"),
        ("images/x.jpg,", "images/x.jpg", "no label: in row 9"),
        ("images/x.jpg,  ", "images/x.jpg", "no label: in row 9"),
        (f"{'x' * 300}.jpg,b", f"{'x' * 300}.jpg", "unreadable: File name too long"),
    ],
)
def test_a_row_that_cannot_be_used_is_refused_and_named(pictures, row, name, why):
    told = made(pictures, rows() + row + "\n")
    (found,) = told["refused"]
    assert found["name"] == name
    assert found["why"].startswith(why)
    assert told["images"] == 8


def test_rows_that_contradict_each_other_are_all_refused(pictures):
    text = rows("train", header="path,label,split")
    found = made(pictures, text + "images/b_0.jpg,c,train\nimages/c_0.jpg,c,test\n")["refused"]
    label = "contradicting rows: the label is 'b' in row 5 and 'c' in row 9"
    split = "contradicting rows: the split is 'train' in row 7 and 'test' in row 10"
    expected = [("images/b_0.jpg", label)] * 2 + [("images/c_0.jpg", split)] * 2
    assert [(r["name"], r["why"]) for r in found] == expected
    assert len(index(pictures)) == 6


@pytest.mark.parametrize("value", ["", "far", "nan", "inf", "1e999", "1_000", "\uff11", "0x1"])
def test_values_must_be_finite_numbers(pictures, value):
    text = rows("1", header="path,label,x").replace(
        "images/b_1.jpg,b,1", f"images/b_1.jpg,b,{value}"
    )
    found = refused(pictures, text, values=["x"])
    assert found == {"images/b_1.jpg": f"no number: x is {value!r} in row 6"}


def test_a_row_without_a_split_among_rows_with_one(pictures):
    text = rows("test", header="path,label,split").replace("b_1.jpg,b,test", "b_1.jpg,b,")
    found = refused(pictures, text)
    assert found == {"images/b_1.jpg": "no split: in row 6, though others have one"}


@pytest.mark.parametrize(
    ("text", "options", "sentence"),
    [
        (rows("others", header="path,label,split"), {}, "Row 1 of .* 'others'; accepted: train"),
        (rows(), {"split": "set"}, r"no column 'set' \(dataset\.fetch\.split\)"),
        (rows(), {"values": "x"}, "must be a list of column names"),
        (rows(), {"values": None}, "must be a list of column names"),
        (rows(), {"values": [None]}, "values is None; it must be the name of a column"),
        (rows(), {"path": None}, r"dataset\.fetch\.path is None; it must be the name"),
        (rows(), {"label": 2024}, r"no column '2024' \(dataset\.fetch\.label\)"),
        (rows(), {"root": 5}, "dataset.fetch.root 5 does not exist"),
        (rows(), {"root": "nowhere"}, "dataset.fetch.root nowhere does not exist"),
        (rows().replace(",b", ',"b\n"'), {}, "Row 5 of .* path or label of more than one line"),
    ],
)
def test_a_table_that_is_none_is_refused_with_one_sentence(pictures, text, options, sentence):
    with pytest.raises(UserError, match=sentence) as caught:
        made(pictures, text, **options)
    assert "\n" not in str(caught.value)
    assert not (pictures / "data").exists()


@pytest.mark.parametrize("word", ["NA", "n/a", "NaN", "nan", "None", "NULL", "<NA>", " NA "])
def test_words_that_mean_no_label_are_refused_unless_said_otherwise(pictures, capsys, word):
    text = rows() + f"images/x.jpg,{word}\n"
    (pictures / "images" / "x.jpg").write_bytes(b"x")
    told = made(pictures, text)
    assert told["refused"] == [
        {
            "name": "images/x.jpg",
            "why": f"no label: {word.strip()!r} in row 9 (dataset.fetch.empty=[] makes it a class)",
        }
    ]
    assert "table: 1 labels are words like NA or None" in capsys.readouterr().out
    told = made(pictures, text, empty=[])
    assert (told["classes"], told["refused"]) == (5, [])
    assert index(pictures)["images/x.jpg"]["class_name"] == word.strip()


def test_other_words_for_a_split(pictures):
    text = rows("validation", header="path,label,split").replace("001,validation", "001,Training")
    made(pictures, text.replace("c,validation", "c,testing"))
    found = {row["class_name"]: row["split"] for row in index(pictures).values()}
    assert found == {"001": "train", "002": "val", "b": "val", "c": "test"}


def test_a_missing_image_says_which_folder_was_searched(pictures):
    told = refused(pictures, rows() + "images/gone.jpg,b\n")
    assert f"no such file in {pictures} (dataset.fetch.root" in told["images/gone.jpg"]


def test_files_found_by_another_spelling_are_told_and_listed(pictures, capsys):
    text = rows().replace("images/b_0.jpg", "Images\\B_0.JPG")
    told = made(pictures, text)
    assert (told["images"], told["refused"]) == (8, [])
    said = capsys.readouterr().out
    assert "table: 1 files were found by another spelling" in said
    listed = (pictures / "data" / "raw" / "respelled.csv").read_text("utf-8-sig").splitlines()
    assert listed == ["row,path,file", f"5,Images\\B_0.JPG,{pictures / 'images' / 'b_0.jpg'}"]


def test_one_file_by_two_spellings_is_listed_twice(pictures):
    told = refused(pictures, rows() + "IMAGES/b_0.jpg,b\n")
    assert told == {"IMAGES/b_0.jpg": "listed twice: in rows 5 and 9"}


def test_all_that_was_refused_is_listed_though_the_stage_refuses(pictures):
    with pytest.raises(UserError, match="too few classes"):
        made(pictures, "path,label\n" + "".join(f"no/{i}.jpg,{i}\n" for i in range(9)))
    listed = (pictures / "data" / "raw.refused.csv").read_text("utf-8-sig").splitlines()
    assert len(listed) == 10
    assert not (pictures / "data" / "raw").exists()
