"""Columns of a CSV or Parquet file: found by name, and what is no table is named."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rhs.datasets.table_columns import read_columns
from rhs.errors import UserError

WANTED = {"path": "path", "label": "label"}
TEXT = "path,label,note\na.jpg,001,x\nb.jpg,b,y\n"


def read(folder: Path, content: str | bytes | dict, name: str = "t.csv", **more: str) -> dict:
    """Key -> cells; `more` are columns that are wanted too. A dict of columns becomes a Parquet."""
    if isinstance(content, dict):
        pq.write_table(pa.table(content), folder / (name := "t.parquet"))
    else:
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return read_columns(folder / name, WANTED | more, optional=("split",)).to_pydict()


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()])
def test_text_of_a_parquet_may_be_of_any_kind(tmp_path, kind):
    columns = {"path": pa.array(["a.jpg"], kind), " label": pa.array(["001"], kind)}
    assert read(tmp_path, columns) == {"path": ["a.jpg"], "label": ["001"]}


def test_a_column_may_be_wanted_twice(tmp_path):
    found = {"path": ["a.jpg", "b.jpg"], "label": ["001", "b"], "split": ["001", "b"]}
    assert read(tmp_path, TEXT, split="label") == found
    columns = {"path": ["a.jpg", "b.jpg"], "label": ["001", "b"]}
    assert read(tmp_path, columns, split="label") == found


@pytest.mark.parametrize("name", ["Split", " SPLIT "])
def test_a_column_of_nearly_the_name_is_not_passed_over(tmp_path, name):
    said = rf"no column 'split' \(dataset\.fetch\.split\), but '{name}': rename it, or give dataset"
    for content in (TEXT.replace("note", name), {"path": ["a"], "label": ["b"], name: ["c"]}):
        with pytest.raises(UserError, match=said):
            read(tmp_path, content, split="split")
        assert set(read(tmp_path, content, split=name.strip())) == {"path", "label", "split"}
        assert set(read(tmp_path, content)) == {"path", "label"}


def test_the_right_name_beside_one_of_nearly_it(tmp_path):
    text = "path,label,Label, path2\na,b,c,d\n"
    assert read(tmp_path, text) == {"path": ["a"], "label": ["b"]}


@pytest.mark.parametrize(
    ("text", "more", "sentence"),
    [
        (TEXT.replace("path", "file"), {}, r"no column 'path' \(dataset\.fetch\.path\); it has 'f"),
        (TEXT, {"label": "kind"}, r"no column 'kind' \(dataset\.fetch\.label\)"),
        (TEXT, {"0": "x"}, r"no column 'x' \(dataset\.fetch\.values\)"),
        (TEXT.replace("note", "path"), {}, "2 columns 'path'"),
        (TEXT.replace("note", " label"), {}, "2 columns 'label'"),
        (TEXT.replace(",", ":"), {}, "'path:label:note'; columns are separated by commas, semi"),
        (TEXT.split("\n", 1)[1], {}, r"the first line is a row, and has to name the columns"),
        (TEXT.replace("b,y", "b,y,z"), {}, r"Row 2 of .* \(line 3\) has 4 cells; accepted: 3"),
        (TEXT.replace("b,y", "b"), {}, r"Row 2 of .* \(line 3\) has 2 cells; accepted: 3"),
        ("path,label\n", {}, "has no rows"),
        ("", {}, "is empty; a line of column names and rows are needed"),
        (b"\x89PNG\r\n\x1a\n\x00\xff\xfe\x00", {}, "no table, but an image"),
        (b"\xd0\xcf\x11\xe0" + bytes(99), {}, "an Excel file; export it as .csv"),
        (b"PK\3\4" + bytes(26) + b"[Content_Types].xml", {}, "an Excel file; export it"),
        (b"\x1f\x8b" + bytes(99), {}, "but gzip: unpack it"),
        ('[{"path": "a.jpg"}]', {}, "is JSON; write it as"),
        (TEXT.encode().replace(b"001", b"\xe9"), {}, "can't decode byte"),
        (TEXT.replace("001", '"001'), {}, "unexpected end of data"),
        (TEXT.replace(",x", ',"5 inch'), {}, "unexpected end of data"),
        (TEXT.replace(",x", ',"5" inch'), {}, "expected after"),
    ],
)
def test_a_table_that_is_none_is_refused_with_one_sentence(tmp_path, text, more, sentence):
    with pytest.raises(UserError, match=sentence) as caught:
        read(tmp_path, text, **more)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"path": ["a"], "label": [1.5]}, "'label' of .* type double; accepted: text or whole"),
        ({"path": [1], "label": ["a"]}, "'path' of .* type int64; accepted: text"),
        ({"path": ["a"], "label": ["a"], "x": [True]}, "'x' of .* bool; accepted: numbers"),
    ],
)
def test_columns_of_a_parquet_of_the_wrong_kind(tmp_path, columns, sentence):
    with pytest.raises(UserError, match=sentence):
        read(tmp_path, columns, **({"0": "x"} if "x" in columns else {}))


def test_values_of_a_parquet_may_be_numbers_or_text(tmp_path):
    columns = {"path": ["a"], "label": [7], "x": [1], "y": ["1"]}
    found = {"path": ["a"], "label": ["7"], "0": [1.0], "1": ["1"]}
    assert read(tmp_path, columns, **{"0": "x", "1": "y"}) == found


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("t.parquet", "cannot be read"), ("t.docx", "accepted: a .csv"), ("t.PARQUET", "cannot be")],
)
def test_a_file_of_another_kind(tmp_path, name, sentence):
    with pytest.raises(UserError, match=sentence):
        read(tmp_path, TEXT, name)


def test_a_table_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"gone\.csv does not exist; accepted: a \.csv"):
        read_columns(tmp_path / "gone.csv", WANTED)
    (tmp_path / "d.parquet").mkdir()
    with pytest.raises(UserError, match=r"d\.parquet is not a file; accepted: a \.csv"):
        read_columns(tmp_path / "d.parquet", WANTED)


ACCENTS = "path,label\naño.jpg,niña\n"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_tells_the_encoding(tmp_path, encoding):
    assert read(tmp_path, ACCENTS.encode(encoding)) == {"path": ["año.jpg"], "label": ["niña"]}


@pytest.mark.parametrize(
    ("encoding", "word"), [("cp1252", "niña"), ("cp932", "写真"), ("gb18030", "中文")]
)
def test_another_encoding_is_refused_until_it_is_named(tmp_path, encoding, word):
    text = f"path,label\na.jpg,{word}\n"
    with pytest.raises(UserError, match=rf"encoding={encoding} \(.*\) reads '{word}'") as caught:
        read(tmp_path, text.encode(encoding))
    assert "\n" not in str(caught.value)
    found = read_columns(tmp_path / "t.csv", WANTED, encoding=encoding).to_pydict()
    assert found["label"] == [word]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_sixteen_bits_without_a_mark_are_named(tmp_path, encoding):
    with pytest.raises(UserError, match=f"say dataset.fetch.encoding={encoding}"):
        read(tmp_path, ACCENTS.encode(encoding))
    assert len(read_columns(tmp_path / "t.csv", WANTED, encoding=encoding)) == 1


@pytest.mark.parametrize("encoding", ["klingon", "base64", 5, ""])
def test_an_encoding_that_is_none(tmp_path, encoding):
    (tmp_path / "t.csv").write_text(TEXT)
    with pytest.raises(UserError, match=r"encoding is .*; accepted: null \(UTF-8\), or a name"):
        read_columns(tmp_path / "t.csv", WANTED, encoding=encoding)


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.txt", "t.tab"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_the_separator_is_told_by_the_names(tmp_path, separator, name):
    text = TEXT.replace(",", separator)
    assert read(tmp_path, text, name) == {"path": ["a.jpg", "b.jpg"], "label": ["001", "b"]}
    assert len(read(tmp_path, f"sep={separator}\r\n{text}", name)["path"]) == 2


def test_a_parquet_by_another_name_and_whole_numbers_that_pandas_wrote_as_floats(tmp_path):
    columns = {"path": ["a", "b", "c"], "label": pa.array([1.0, float("nan"), None])}
    assert read(tmp_path, columns)["label"] == ["1", None, None]
    (tmp_path / "t.parquet").rename(tmp_path / "t.csv")
    assert len(read_columns(tmp_path / "t.csv", WANTED)) == 3
    halves = {"path": ["a"], "label": pa.array([7.0], pa.float32())}
    assert read(tmp_path, halves)["label"] == ["7"]
    codes = pa.array([3, 3]).dictionary_encode()
    assert read(tmp_path, {"path": ["a", "b"], "label": codes})["label"] == ["3", "3"]
