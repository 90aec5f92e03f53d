"""Every parameter, damaged in every way that an editor can: each stage's checks pass it or say so.

Nothing is trained or embedded here: what each stage looks at before it works is called.
"""

import copy
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from damage import DELETED, VALUES, damaged, held, paths
from tiny_project import ROOT, composed, small_params

from pipelines import fetch, preprocess
from rhs.config.schema import BadSetting, Missing, entries_of, keys, nearest, read_params
from rhs.config.settings import IndexConfig
from rhs.errors import UserError
from rhs.inference.faiss_index import DEFAULTS, check_index_settings
from rhs.training.preflight import check

FILES = {
    "default": (),
    "proxies": ("method=schem", "cluster=one_gpu", "train=head", "tracking=mlflow"),
    "augmented": (
        "method=iaa_triplet",
        "dataset=table",
        "dataset.train_classes=[a,b]",
        "dataset.augment.jitter={hue: 0.1}",
        "index.kind=ivf_pq",
    ),
}


@cache
def good(name: str) -> dict:
    return asdict(small_params(*FILES[name]))


class Looked(Exception):
    """A stage's checks are over; its work would begin."""


def look(params: dict, shards: Path, monkeypatch) -> None:
    """What fetch, preprocess, train and evaluate look at before they work."""
    config = read_params(params)

    def stop(*args: Any, **more: Any) -> None:
        raise Looked

    monkeypatch.setattr(fetch, "build", stop)
    with pytest.raises(Looked):
        fetch.main(config)
    preprocess._settings(config)
    check_index_settings(params["index"], images=20_000, dim=params["model"]["dim"])
    check(config, shards)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name == "default" else pytest.mark.slow) for name in FILES],
)
def test_no_damage_ends_in_a_traceback(name, tiny_shards, monkeypatch):
    monkeypatch.chdir(ROOT)
    look(good(name), tiny_shards, monkeypatch)
    refused = passed = 0
    for path in paths(good(name)):
        if name != "default" and held(good(name), path) == held(good("default"), path):
            continue  # damaged there
        for value in VALUES:
            try:
                look(damaged(good(name), path, value), tiny_shards, monkeypatch)
                passed += 1
            except UserError as error:  # noqa: PERF203
                refused += 1
                said, named = str(error), [key for key in path if isinstance(key, str)][-1]
                assert "\n" not in said, (path, value, said)
                assert len(said) < 1000, (path, value, said)
                assert named in said, (path, value, said)
            except Exception as error:  # names what did it
                pytest.fail(f"{path} = {value!r}: {type(error).__name__}: {error}")
    assert refused > 5 * passed > 0


def test_the_table_has_every_parameter_and_no_other():
    """`keys` are those that conf/ composes, but for what a `_target_` takes."""
    composed = {".".join(path) for path in paths(good("default")) if isinstance(path[-1], str)}
    inner = ("dataset.fetch.", "model.trunk.", "method.", "cluster.resources_per_worker.")
    assert {key for key in composed if not key.startswith(inner)} == set(keys())
    assert set(DEFAULTS) == set(entries_of(IndexConfig))


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("train.epoch", "train.epochs"),
        ("train.image_size", "model.image_size"),
        ("epochs", "train.epochs"),
        ("trian", "train"),
        ("preprocess.foo", None),
        ("cluster.checkpoint.every_second", "cluster.checkpoint.every_seconds"),
        ("train.learning_rate", "train.lr"),
        ("xyzzy", None),
    ],
)
def test_the_nearest_known_parameter_is_offered(path, near):
    assert nearest(path) == near
    *above, key = path.split(".")
    params = copy.deepcopy(good("default"))
    held(params, tuple(above))[key] = 1
    with pytest.raises(BadSetting, match=f"^{path} is unknown; accepted: ") as caught:
        read_params(params)
    assert caught.value.key == path
    assert near is None or f"; the nearest known is {near}" in str(caught.value)


def test_the_kinds_of_sentences():
    for path, value, said in (
        (("train", "lr"), DELETED, "train.lr is missing."),
        (("train",), None, "train is None; it must be a group of settings, as in conf/."),
        (("dataset", "train_classes"), [True, "cat"], "yes, no, on and off as true or false"),
        (("dataset", "train_classes"), [1.5], "in quotes"),
        (("dataset", "source"), "http://me:secret@host/x\0", "***@host"),
        (("train", "precision"), "bfloat", r"bfloat16 (nearest: bfloat16)."),
        (("cluster", "num_workers"), 10**12, "a whole number of at least 1"),
    ):
        with pytest.raises(BadSetting) as caught:
            read_params(damaged(good("default"), path, value))
        assert said in str(caught.value)
        assert caught.value.key == ".".join(path)
        assert isinstance(caught.value, Missing) == (value is DELETED)


@pytest.mark.parametrize("key", ["experiment", "registered_model"])
def test_tracking_needs_its_names(key):
    with pytest.raises(UserError, match=f"tracking.{key} is None; name one, or set"):
        composed(f"tracking.{key}=null")
    assert not composed("tracking=none").tracking.enabled
