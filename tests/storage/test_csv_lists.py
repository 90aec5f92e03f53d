"""Lists for people: whole, in one place, and harmless in a spreadsheet."""

import csv
from contextlib import suppress

import pytest

from rhs.errors import UserError
from rhs.storage.csv_lists import csv_text, lists, safe_cell, write_list

ROWS = [("name", "why"), ("a.jpg", "truncated"), ("b\n,.jpg", 'a "quote"')]


def read(path):
    with path.open(encoding="utf-8-sig", newline="") as stream:
        return [tuple(row) for row in csv.reader(stream)]


def refuse(out, building, error):
    """The lists of a block that ends with `error`."""
    with suppress(type(error)), lists(out, building) as made:
        made.rows |= {"refused": ROWS, "empty": ROWS[:1]}
        raise error
    return made


def test_a_list_is_inside_and_beside_only_after_an_error(tmp_path):
    building, out = tmp_path / ".out.tmp", tmp_path / "out"
    building.mkdir()
    made = refuse(out, building, UserError("no"))
    assert read(made.beside("refused")) == ROWS
    assert sorted(p.name for p in tmp_path.iterdir()) == [".out.tmp", "out.refused.csv"]
    assert not list(building.iterdir())
    with lists(out, building) as made:
        made.rows["refused"] = ROWS
    assert not made.beside("refused").exists()
    assert read(building / "refused.csv") == ROWS
    assert made.inside("refused") == out / "refused.csv"


def test_another_error_is_no_refusal(tmp_path):
    refuse(tmp_path / "out", tmp_path, ZeroDivisionError())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(1)", " =1", "\t=1", "\r=1"])
def test_a_name_is_no_formula(name):
    assert safe_cell(name) == f"'{name}"


@pytest.mark.parametrize("cell", ["a=1", "a/-b.jpg", "", 5, -5.5, None])
def test_other_cells_stay(cell):
    assert safe_cell(cell) == cell


def test_any_name_can_be_written(tmp_path):
    write_list(tmp_path / "x.csv", [("name",), ("写真\udcff.jpg",)])
    assert read(tmp_path / "x.csv")[1] == ("写真\\udcff.jpg",)


def test_tables_hold_no_formula_either():
    assert csv_text([("name", "value"), ("=1+1", -0.5)]) == "name,value\n'=1+1,-0.5\n"
