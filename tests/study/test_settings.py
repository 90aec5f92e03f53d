"""A study's file, changes to it, and what is refused."""

from itertools import permutations

import pytest
from damage import damages, sentence
from tiny_project import ROOT
from tiny_study import STUDY, small_study

from rhs.config.compose import compose
from rhs.errors import UserError
from rhs.study.settings import ENOUGH, load_study
from rhs.tuning.search_space import overrides_of

FILES = sorted(path.stem for path in (ROOT / "conf/study").glob("*.yaml"))
LR = {"low": 1e-4, "high": 1e-2, "log": True}
WIDE = {"train.lr": LR}


def test_a_method_adds_to_the_shared_space_and_takes_from_it():
    methods = {
        "npair": {"overrides": ["method=npair"], "space": {"train.head_lr": LR}},
        "triplet": {"overrides": ["method=triplet"], "space": {"train.lr": None, "seed": LR}},
    }
    tune = {"trials": 3, "space": WIDE}
    settings = small_study(methods=methods, tune=tune)
    assert [d.path for d in settings.search_of("npair").dimensions] == ["train.lr", "train.head_lr"]
    assert [d.path for d in settings.search_of("triplet").dimensions] == ["seed"]
    assert {settings.search_of(label).trials for label in methods} == {3}


def test_of_overrides_of_one_path_the_last_holds():
    settings = small_study(base=["train.lr=1", "train.epochs=2"])
    made = settings.overrides("tiny", "rhs", "train.lr=2", "seed=3")
    assert made == ["train.epochs=2", "method=rhs_npair", "train.lr=2", "seed=3"]


def test_a_list_of_labels_takes_a_part():
    settings = small_study("study.methods=[rhs]", "study.seeds=[5]", "study.tune.trials=0")
    assert list(settings.methods) == ["rhs"]
    assert settings.baselines == []
    assert settings.seeds == [5]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("study.seeds=[]", "study.seeds is []"),
        ("study.seeds=[1,1]", "different seeds"),
        ("study.seeds=[a]", "study.seeds is 'a'"),
        ("study.baselines=[symm]", "study.baselines has 'symm'; accepted: npair, rhs."),
        ("study.methods=[symm]", "study.methods has 'symm'; accepted: npair, rhs."),
        ("study.tune.trials=-1", "study.tune.trials is -1"),
        ("study.tune={trials:2,seed:1,space:{seed:{low:1,high:2}}}", "a seed of their own"),
        ("study.tune={trials:2}", "at least one parameter"),
        ("study.tune.objective=mapr", "study.tune.objective is 'mapr'"),
        ("study.tune.budget=2", "study.tune.budget is unknown"),
        ("study.epochs=2", "study.epochs is unknown"),
        ("study.name='a/b'", "it is of letters"),
        ("study.base=[tracking]", "it must be a list of path=value"),
        ("study.seeds=[", "cannot be read"),
    ],
)
def test_what_cannot_be_is_refused(change, said):
    with pytest.raises(UserError) as refusal:
        small_study(change)
    assert said in str(refusal.value)


@pytest.mark.parametrize(
    "changes", list(permutations(["study.methods=[rhs]", "study.baselines=[npair]"]))
)
def test_a_baseline_that_is_asked_for_is_never_dropped(changes):
    with pytest.raises(UserError, match=r"study.baselines has 'npair'; accepted: rhs\."):
        small_study(*changes)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("method=triplet", r"method=triplet would be lost: study.methods.\w+ sets method."),
        ("dataset=cub200", r"dataset=cub200 would be lost: study.data.\w+ sets dataset."),
        ("seed=3", "seed=3 would be lost: study.seeds sets seed."),
    ],
)
def test_an_override_that_would_be_lost_is_refused(override, said):
    with pytest.raises(UserError, match=said):
        load_study("glyphs", [], [override])


def test_the_folder_of_data_sets_is_asked_for(monkeypatch):
    monkeypatch.delenv("RHS_DATASETS", raising=False)
    data = {"cars": ["dataset=folder", "dataset.source='${study.datasets}/cars.tar'"]}
    given = {**STUDY, "data": data, "datasets": "${oc.env:RHS_DATASETS,null}"}
    with pytest.raises(UserError, match=r"study\.datasets is missing"):
        load_study(given)
    settings = load_study(given, ["study.datasets=some/folder"])
    assert settings.data["cars"][1] == "dataset.source=some/folder/cars.tar"
    monkeypatch.setenv("RHS_DATASETS", "my sets (2)")
    assert load_study(given).data["cars"][1] == "dataset.source='my sets (2)/cars.tar'"


def test_an_unknown_study_is_refused(project):
    with pytest.raises(UserError, match=r"study=nothing is unknown; accepted: .*glyphs"):
        load_study("nothing")


@pytest.mark.parametrize("name", FILES)
def test_every_study_composes(project, name):
    """Each data set, and each method with all that is tuned of it."""
    settings = load_study(name, ["study.datasets=folder"])
    assert len(settings.seeds) >= ENOUGH
    first = next(iter(settings.methods))
    for data in settings.data:
        compose(settings.overrides(data, first))
    data = next(iter(settings.data))
    for method in settings.methods if name == "glyphs" else [first]:
        examples = {d.path: d.example for d in settings.search_of(method).dimensions}
        compose(settings.overrides(data, method, *overrides_of(examples)))


def test_no_damage_of_a_study_ends_in_a_traceback():
    load_study(STUDY)
    for what, settings in damages(STUDY):
        sentence(what, load_study, settings)
