"""`conf/tune/*.yaml` and what of it cannot be."""

import pytest
from damage import damages, sentence
from tiny_project import ROOT, composed

from rhs.config.compose import read_file
from rhs.config.overrides import overrides_of
from rhs.errors import UserError
from rhs.methods.check_method import check_method
from rhs.tuning.search_space import check_paths
from rhs.tuning.settings import load_settings

NAMES = sorted(path.stem for path in (ROOT / "conf/tune").glob("*.yaml"))


@pytest.fixture(autouse=True)
def _in_project(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("name", NAMES)
def test_every_file_fits_the_parameters(name):
    settings = load_settings(name)
    check_paths(settings.dimensions, [])


@pytest.mark.parametrize("name", NAMES)
def test_every_choice_of_a_file_is_one_that_a_run_takes(name):
    dimensions = load_settings(name).dimensions
    first = {each.path: each.example for each in dimensions if each.path == "method"}
    for each in dimensions:
        chosen = first | {path: wanted[0] for path, wanted in each.when.items()}
        for value in each.choices or (each.low, each.high):
            params = composed(*overrides_of(chosen | {each.path: value}))
            check_method(params.method)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            "tune.trials=0",
            "tune.trials is 0; it must be a whole number of at least 1"
            "|tune.trials is 0; it must be a whole number at least 1",
        ),
        ("tune.objective=recall@10", "tune.objective is 'recall@10'; it must be recall@1 or map@r"),
        ("tune.concurrent=0", "tune.concurrent is 0"),
        ("tune.workers=two", "tune.workers is 'two'"),
        ("tune.workers=2", "only trials of one worker can be stopped early"),
        ("tune.seed=-1", "tune.seed is -1"),
        ("tune.scheduler=asha", "it must be null, or have grace and reduction"),
        ("tune.scheduler.reduction=1", "tune.scheduler.reduction is 1; .* above 1"),
        ("tune.trails=3", "tune.trails is unknown; accepted: name, objective, trials"),
        ("tune.name=a/b", "tune.name is 'a/b'; it names files"),
        ("tune.trials=[", "cannot be read"),
        ("tune.space=null", "give at least one parameter"),
        ("tune.space.train.lr={low: 1, high: 0}", "low must be below high"),
    ],
)
def test_settings_that_cannot_be(change, said):
    with pytest.raises(UserError, match=said) as caught:
        load_settings("default", [change])
    assert "\n" not in str(caught.value)


def test_an_unknown_file_lists_the_known_ones():
    with pytest.raises(UserError, match="tune=nope is unknown; accepted: default, "):
        load_settings("nope")


def test_changes_of_the_command_line():
    changes = [
        "tune.trials=5",
        "tune.scheduler=null",
        "tune.space.train.weight_decay=null",
        "tune.space.train.lr={choice: [0.1]}",
        "tune.space.seed={choice: [0]}",
    ]
    settings = load_settings("default", changes)
    assert (settings.trials, settings.scheduler) == (5, None)
    assert settings.space["train.lr"] == {"choice": [0.1]}
    assert "train.weight_decay" not in settings.space
    assert list(settings.space)[-1] == "seed"
    assert load_settings("default").trials == 30


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "x.yaml, line 1: "),
        ("- a", "it must be a mapping"),
        ("a: b: c", "x.yaml, line 1: mapping values"),
        ("", "x.yaml is empty"),
        ("\ta: b", "spaces, not with tabs"),
        ("a: 1\na: 2", "line 2: found duplicate key a"),
        ("a: ${", "x.yaml: "),
    ],
)
def test_a_file_that_is_none(tmp_path, text, said):
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(UserError, match=said) as caught:
        read_file("study", tmp_path, "x")
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="study=y is unknown; accepted: x"):
        read_file("study", tmp_path, "y")


def test_no_damage_of_a_search_ends_in_a_traceback():
    good = {"name": "x"} | read_file("tune", ROOT / "conf/tune", "default")
    for what, settings in damages(good):
        sentence(what, load_settings, settings)
