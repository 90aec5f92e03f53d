"""Search spaces: what they hold, when, and how a value is written."""

import pytest
from optuna.trial import FixedTrial
from tiny_project import ROOT, composed

from rhs.config.overrides import as_text, assigned, overrides_of
from rhs.errors import UserError
from rhs.tuning.search_space import check_paths, defaults, read_space, suggest_values


@pytest.fixture(autouse=True)
def _in_project(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"low": 1.0, "high": 1.0}, "tune.space.train.lr goes from low 1.0 to high 1.0"),
        ({"low": 2, "high": 1}, "low must be below high"),
        ({"low": 0.0, "high": 1.0, "log": True}, "train.lr.low is 0.0; it must be .* above 0"),
        ({"low": 0.1, "high": 1.0, "log": True, "step": 0.1}, "both log and step"),
        ({"low": 0.5, "high": 2, "int": True}, "train.lr.low is 0.5; it must be a whole number"),
        ({"high": 1.0}, "train.lr.low is None"),
        ({"low": 0.1, "high": 1.0, "log": 1}, "train.lr.log is 1; it must be true or false"),
        ({"choice": []}, "choice takes a list"),
        ({"choice": "npair"}, "choice takes a list"),
        ({"choice": [1], "low": 1}, "choice takes a list"),
        ({"lowest": 1}, "accepted are low, high"),
        (3, "accepted are low, high"),
        ({"choice": [1], "when": "method"}, "give a path and its value"),
    ],
)
def test_a_range_that_is_none(entry, said):
    with pytest.raises(UserError, match=said):
        read_space({"train.lr": entry})


def test_an_empty_space():
    with pytest.raises(UserError, match="give at least one parameter"):
        read_space({})


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({"train.rate": {"low": 0, "high": 1}}, "rate"),
        ({"method": {"choice": ["npair", "nope"]}}, "method=nope is unknown"),
        (
            {
                "method.original_weight": {"low": 0, "high": 1, "when": {"method": "npair"}},
                "method": {"choice": ["npair"]},
            },
            "must come before it",
        ),
        (
            {
                "method": {"choice": ["npair"]},
                "method.original_weight": {"low": 0, "high": 1, "when": {"method": "rhs_npair"}},
            },
            "which the space does not hold",
        ),
        ({"method.original_weight": {"low": 0, "high": 1}}, "original_weight"),
        ({"train.lr": {"low": 0, "high": 1, "when": {"train": "head"}}}, "which is not varied"),
        ({"train.select": {"choice": ["best"]}}, "no trial depends on it"),
        ({"method": {"choice": ["triplet"]}}, "method=npair would be lost: the search varies"),
    ],
)
def test_paths_that_lead_nowhere(space, said):
    with pytest.raises(UserError, match=said) as caught:
        check_paths(read_space(space), ["method=npair"])
    assert "\n" not in str(caught.value)


SPACE = {
    "method": {"choice": ["npair", "rhs_npair"]},
    "method.original_weight": {"low": 0.0, "high": 1.0, "when": {"method": "rhs_npair"}},
    "method.centers.momentum": {"choice": [0.5, 0.9], "when": {"method.original_weight": 0.25}},
    "train.epochs": {"low": 2, "high": 8, "int": True, "when": {"train.precision": "float32"}},
}


def test_conditions_decide_what_is_varied():
    space, base = read_space(SPACE), composed("method=rhs_npair")
    check_paths(space, ["method=rhs_npair"])
    plain = suggest_values(space, FixedTrial({"method": "npair", "train.epochs": 3}), base)
    assert plain == {"method": "npair", "train.epochs": 3}
    values = {
        "method": "rhs_npair",
        "method.original_weight": 0.25,
        "method.centers.momentum": 0.9,
        "train.epochs": 4,
    }
    assert suggest_values(space, FixedTrial(values), base) == values
    other = composed("train.precision=bfloat16")
    assert suggest_values(space, FixedTrial({"method": "npair"}), other) == {"method": "npair"}


def test_the_defaults_are_what_the_shared_parameters_say():
    base = composed("method=rhs_npair", "train.epochs=30")
    own = defaults(read_space(SPACE), base)
    assert own["method"] == "rhs_npair"
    assert own["method.original_weight"] == base.method["original_weight"]
    assert "train.epochs" not in own  # 30 is not in the space


def test_numbers_are_rounded_and_stay_in_their_range():
    (dimension,) = read_space({"train.lr": {"low": 0.00123456, "high": 0.9, "log": True}})
    assert dimension.suggest(FixedTrial({"train.lr": 0.0123456789})) == 0.01235
    (dimension,) = read_space({"train.lr": {"low": 0.00123446, "high": 0.9}})
    assert dimension.suggest(FixedTrial({"train.lr": 0.001234461})) == 0.00123446


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.001, "0.001"),
        (1e-05, "1e-05"),
        (3, "3"),
        (True, "true"),
        (None, "null"),
        ("npair", "npair"),
        ("it's [1]", "'it\\'s [1]'"),
        ([1, "a b"], "[1,'a b']"),
        ({"a": [1.5]}, "{a:[1.5]}"),
    ],
)
def test_values_as_hydra_reads_them(value, text):
    assert as_text(value) == text
    (override,) = overrides_of({"dataset.coarse": value})
    assert assigned(override) == ("dataset.coarse", value)


def test_a_choice_of_lists():
    (dimension,) = read_space({"model.trunk.widths": {"choice": [[8, 16], [16, 32]]}})
    assert dimension.suggest(FixedTrial({"model.trunk.widths": "[16,32]"})) == [16, 32]
    check_paths([dimension], [])


def test_only_what_trials_depend_on_is_varied():
    (dimension,) = read_space({"preprocess.short_side": {"choice": [128, 256]}})
    with pytest.raises(UserError, match=r"short_side: no trial depends on it; vary model, "):
        check_paths([dimension], [])


def test_a_parameter_must_fit_every_method_that_is_varied():
    space = {"method": {"choice": ["triplet", "npair"]}, "method.loss.scale": {"low": 4, "high": 8}}
    with pytest.raises(UserError, match=r"method\.loss\.scale"):
        check_paths(read_space(space), ["method=npair"])
    space["method"]["choice"] = ["symm_npair", "npair"]
    check_paths(read_space(space), [])


def test_a_step_keeps_all_its_digits():
    (dimension,) = read_space({"train.warmup": {"low": 0.0, "high": 1.0, "step": 0.03125}})
    assert dimension.suggest(FixedTrial({"train.warmup": 0.71875})) == 0.71875
