"""What training is told: numbers that cannot work are refused before it starts."""

import math

import pytest
from tiny_project import changed, small_params

from rhs.errors import UserError
from rhs.training.preflight import check


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (
            {"precision": "float16"},
            r"train\.precision is 'float16'; accepted: float32, bfloat16",
        ),
        ({"epochs": 0}, r"train\.epochs is 0; it must be a whole number at least 1"),
        ({"lr": 0.0}, r"train\.lr is 0\.0"),
        ({"lr": -1.0}, r"train\.lr is -1"),
        ({"lr": "fast"}, r"train\.lr is 'fast'; it must be a number above 0"),
        ({"epochs": 2.5}, r"train\.epochs is 2\.5; it must be a whole number"),
        ({"lr": math.nan}, r"train\.lr is nan"),
        ({"warmup": -1}, r"train\.warmup is -1"),
    ],
)
def test_settings_that_cannot_work(bad, message, tiny_shards):
    check(small_params(), tiny_shards)
    with pytest.raises(UserError, match=message):
        check(changed(small_params(), train=bad), tiny_shards)
