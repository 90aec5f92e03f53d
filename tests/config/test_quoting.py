"""Whatever a file is called, its name reaches the code as it was typed."""

import shlex

import pytest
from nasty import NAMES
from tiny_project import composed

from rhs.config.overrides import as_text, assigned, overrides_of
from rhs.config.quoting import PATHS, is_sweep, quote, readable
from rhs.errors import UserError


@pytest.mark.parametrize("name", NAMES)
def test_a_path_is_taken_as_it_is_typed(name):
    override = f"dataset.source={name}"
    expected = None if name == "null" else name
    if expected is not None:
        assert composed("dataset=folder", override).dataset.source == expected
    assert assigned(override) == ("dataset.source", expected)


def test_every_parameter_that_is_a_path():
    for path in PATHS:
        dataset = "table" if path == "dataset.fetch.root" else "folder"
        override = f"{path}=~/photos (1), año"
        assert assigned(override) == (path, "~/photos (1), año")
        composed(f"dataset={dataset}", override)


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ('"photos (1).tar"', "photos (1).tar"),
        ("'a,b'", "a,b"),
        (r"photos\ \(1\)", "photos (1)"),
        ("null", None),
        ("data/raw", "data/raw"),
        ("s3://bucket/a b", "s3://bucket/a b"),
    ],
)
def test_what_hydra_reads_keeps_its_meaning(value, read):
    override = f"cluster.storage={value}"
    assert readable(override) == override
    assert composed(override).cluster.storage == read


def test_an_added_path():
    assert readable("+fetch.folder=a(1)") == "+fetch.folder='a(1)'"
    assert readable("~dataset.source") == "~dataset.source"
    assert readable("train.lr=a(1)") == "train.lr=a(1)"


@pytest.mark.parametrize("name", NAMES)
def test_a_value_is_written_as_hydra_reads_it(name):
    path = "dataset.train_classes"
    assert composed(*overrides_of({path: name})).dataset.train_classes == name
    assert composed(*overrides_of({path: [name]})).dataset.train_classes == [name]
    assert assigned(f"{path}={as_text(name)}")[1] == name
    assert assigned(f"{path}={quote(name, chr(34))}")[1] == name


@pytest.mark.parametrize("name", ["fotos_año.txt", "a (1).txt", "a#1", "it's", 'say "x"', "a\nb"])
def test_another_value_is_refused_with_the_quotes_that_it_needs(name):
    with pytest.raises(UserError, match="cannot be read") as caught:
        composed("dataset=folder", f"dataset.train_classes={name}")
    said = str(caught.value)
    (word,) = shlex.split(said[said.index("for the shell: ") + 15 : -1])
    assert composed("dataset=folder", word).dataset.train_classes == name
    assert "Exception" not in said


@pytest.mark.parametrize("word", ["--help", "-S", "train.epochs", "train.epochs =3", "=3", ""])
def test_what_is_no_assignment_is_refused(word):
    with pytest.raises(UserError, match="not of the form KEY=VALUE") as caught:
        composed(word)
    assert str(caught.value).startswith(f"{word!r} is not ")


def test_several_values_are_seen():
    assert is_sweep("train.epochs=1,2")
    for word in ("train.epochs=1", "dataset.source='a,b'", "dataset.source=a (1)", "~experiment"):
        assert not is_sweep(word)
