"""Configuration -> objects, of this package alone unless another is named."""

import functools

import pytest

from rhs.config.instantiate import build
from rhs.errors import UserError
from rhs.methods.generators.rotation import Rotation
from rhs.methods.mining.pairs import PairMiner


def test_plain_values_come_back():
    config = {"a": 1, "b": [1, {"c": None}], "d": "text", "e": (1.5, True)}
    assert build(config) == {"a": 1, "b": [1, {"c": None}], "d": "text", "e": [1.5, True]}


def test_a_target_is_called_with_the_other_keys():
    made = build(
        {"_target_": "rhs.methods.generators.rotation.Rotation", "start": 0.25, "end": 0.5}
    )
    assert isinstance(made, Rotation)
    assert (made.start, made.end) == (0.25, 0.5)


def test_depth_first_and_extra_arguments_outermost():
    config = {
        "_target_": "rhs.methods.objective.Objective",
        "mining": {"_target_": "rhs.methods.mining.pairs.PairMiner"},
        "loss": {"_target_": "rhs.methods.losses.npair.NPair"},
    }
    made = build(config, l2=3.0)
    assert isinstance(made.mining, PairMiner)
    assert made.l2 == 3.0
    assert config["mining"] == {"_target_": "rhs.methods.mining.pairs.PairMiner"}  # as it was


def test_in_lists():
    target = {"_target_": "rhs.methods.generators.symmetric.Symmetric"}
    assert [made.alpha for made in build([target, target | {"alpha": 1.5}])] == [2.0, 1.5]


def test_a_partial_is_called_later_with_the_arguments_that_are_missing():
    config = {"_target_": "rhs.methods.centers.EMACenters", "_partial_": True}
    later = build(config)  # without a momentum it could not be made yet
    assert isinstance(later, functools.partial)
    assert later(momentum=0.25).momentum == 0.25
    assert build(config | {"momentum": 0.5})().momentum == 0.5
    assert build(config, momentum=0.75)().momentum == 0.75
    at_once = build(config | {"_partial_": False, "momentum": 0.5})
    assert at_once.momentum == 0.5


def test_a_partial_within_another_target_reaches_it_uncalled():
    rotation = {
        "_target_": "rhs.methods.generators.rotation.Rotation",
        "_partial_": True,
        "start": 0.5,
    }
    (made,) = build([rotation])
    assert made.keywords == {"start": 0.5}
    made = build({"_target_": "rhs.methods.pml.PMLLoss", "loss": rotation})
    assert made.recipe().start == 0.5


def test_what_is_inside_a_partial_is_called_later_too_unless_it_says_otherwise():
    target = "rhs.methods.centers.EMACenters"
    inside = [{"_target_": target}, {"_target_": target, "momentum": 0.5, "_partial_": False}]
    config = {"_target_": "rhs.methods.pml.PMLLoss", "_partial_": True, "loss": {"two": inside}}
    later, at_once = build(config).keywords["loss"]["two"]
    assert later(momentum=0.25).momentum == 0.25
    assert at_once.momentum == 0.5


def test_a_partial_refuses_what_its_target_does_not_take():
    config = {"_target_": "rhs.methods.centers.EMACenters", "_partial_": True, "momentun": 0.5}
    with pytest.raises(UserError, match=r"EMACenters does not take.*'momentun'"):
        build(config)


def test_another_package_may_be_named_besides_ours_at_any_depth():
    decoder = {"_target_": "json.decoder.JSONDecoder", "strict": False}
    assert build(decoder, also=("json.",)).strict is False
    inside = {"_target_": "rhs.methods.pml.PMLLoss", "loss": decoder}
    assert build(inside, also=("json.",)).recipe.strict is False
    assert build([inside], also=("json.",))[0].recipe.strict is False
    for config in (decoder, inside, [inside]):
        with pytest.raises(UserError, match=r"'json\.decoder\.JSONDecoder' is out of bounds"):
            build(config)
    with pytest.raises(UserError, match=r"must start with 'rhs\.' or 'json\.'"):
        build({"_target_": "os.system"}, also=("json.",))
    with pytest.raises(UserError, match="only imported there"):
        build({"_target_": "json.decoder.scanner"}, also=("json.",))


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("os.system", "out of bounds"),
        ("rhs_other.thing", "out of bounds"),
        ("rhs", "out of bounds"),
        (None, "out of bounds"),
        ("rhs.methods.losses.npair.F", "out of bounds"),  # a module it imports
        ("rhs.run.dataclass", "only imported there"),
        ("rhs.methods.generators.rotation.Nothing", "does not exist"),
        ("rhs.nowhere.Thing", "does not exist"),
        ("rhs.run.hashlib.sha256", "does not exist"),
    ],
)
def test_what_is_not_called(target, message):
    with pytest.raises(UserError, match=message) as caught:
        build({"_target_": target})
    assert repr(target) in str(caught.value)


def test_settings_that_a_target_refuses():
    with pytest.raises(UserError, match=r"Rotation does not take.*'strat'"):
        build({"_target_": "rhs.methods.generators.rotation.Rotation", "strat": 1})
    with pytest.raises(UserError, match=r"EMACenters does not take.*momentum"):
        build({"_target_": "rhs.methods.centers.EMACenters"})
    with pytest.raises(UserError, match="number at least 0 and at most 1"):
        build({"_target_": "rhs.methods.generators.rotation.Rotation", "start": 7})
