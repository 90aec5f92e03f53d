"""Configuration -> objects, of this package alone."""

import pytest

from rhs.build import build
from rhs.errors import UserError
from rhs.methods.generators import Rotation
from rhs.methods.mining import PairMining


def test_plain_values_come_back():
    config = {"a": 1, "b": [1, {"c": None}], "d": "text", "e": (1.5, True)}
    assert build(config) == {"a": 1, "b": [1, {"c": None}], "d": "text", "e": [1.5, True]}


def test_a_target_is_called_with_the_other_keys():
    made = build({"_target_": "rhs.methods.generators.Rotation", "start": 0.25, "end": 0.5})
    assert isinstance(made, Rotation)
    assert (made.start, made.end) == (0.25, 0.5)


def test_depth_first_and_extra_arguments_outermost():
    config = {
        "_target_": "rhs.methods.objective.Objective",
        "mining": {"_target_": "rhs.methods.mining.PairMining"},
        "loss": {"_target_": "rhs.methods.losses.npair.NPair"},
    }
    made = build(config, scale=3.0)
    assert isinstance(made.mining, PairMining)
    assert made.scale == 3.0
    assert config["mining"] == {"_target_": "rhs.methods.mining.PairMining"}  # left as it was


def test_in_lists():
    target = {"_target_": "rhs.methods.generators.Symmetric"}
    assert [made.alpha for made in build([target, target | {"alpha": 1.5}])] == [2.0, 1.5]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("os.system", "out of bounds"),
        ("rhs_other.thing", "out of bounds"),
        ("rhs", "out of bounds"),
        (None, "out of bounds"),
        ("rhs.methods.losses.npair.F", "out of bounds"),  # a module it imports
        ("rhs.run.dataclass", "only imported there"),
        ("rhs.methods.generators.Nothing", "does not exist"),
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
        build({"_target_": "rhs.methods.generators.Rotation", "strat": 1})
    with pytest.raises(UserError, match=r"EMACenters does not take.*momentum"):
        build({"_target_": "rhs.methods.centers.EMACenters"})
    with pytest.raises(UserError, match="a fraction is between 0 and 1"):
        build({"_target_": "rhs.methods.generators.Rotation", "start": 7})
