"""Every parameter of a run and what it may be: one table, looked at before a stage does anything.

What a `_target_` takes is said by its signature: see `rhs.config.targets`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from rhs.config.redact import without_secrets
from rhs.config.renamed import KEYS, old_names
from rhs.config.rules import (
    Rule,
    bounds,
    classes,
    expression,
    flag,
    jitter,
    label,
    mapping,
    maybe,
    one_of,
    path,
    real,
    several,
    storage,
    text,
    validation,
    whole,
    workers,
)
from rhs.errors import UserError, format_value

BIG = 10**6  # of what is counted: more is a slip of the finger
DAY = 86_400  # seconds
SEEDS = 2 * 10**9  # faiss and scikit-learn take 32 bits, and some are counted up from it
# What people call a parameter elsewhere.
MEANT = {
    "train.batch_size": "train.classes (a batch has train.classes x train.per_class images)",
    "train.learning_rate": "train.lr",
    "dataset.class_lists": "dataset.train_classes (a change of its file is noticed by itself)",
}


class BadSetting(UserError):
    """A parameter that cannot be; `key` is its path, such as `train.lr`."""

    def __init__(self, key: str, sentence: str):
        super().__init__(sentence)
        self.key = key


class Missing(BadSetting):
    """A parameter that is not there."""


class Target(NamedTuple):
    """A group that `_target_` and its signature describe, beside the keys of `also`."""

    also: dict[str, Rule]


SCHEMA: dict[str, Any] = {
    "dataset": {
        "name": label,
        "source": path,
        "fetch": Target({}),
        "train_classes": classes,
        "test_classes": classes,
        "validation": validation,
        "copies_across_classes": one_of("refuse", "keep"),
        "recall_at": several(whole(1, 10**9), "[1, 2, 4, 8]"),
        "coarse": maybe(expression),
        "augment": {
            "scale": bounds(1.0),
            "ratio": bounds(1e6),
            "flip": flag,
            "jitter": maybe(jitter),
        },
    },
    "fetch": {
        "folder": path,
        "mirror": maybe(path),
        "retries": whole(0, BIG),
        "timeout": real(above=0, most=DAY),
    },
    "preprocess": {
        "short_side": whole(2, 65_535),  # an image of less shows nothing, and no JPEG has more
        "quality": whole(1, 100),
        "max_pixels": whole(1),
        "max_bad_fraction": real(0, 1),
        "rows_per_shard": whole(1, 10**9),
    },
    "model": {
        "name": label,
        "image_size": whole(1, 4096),
        "dim": whole(1, 65_536),
        "mean": several(real(0, 1), "[0.5, 0.5, 0.5]", count=3),
        "std": several(real(above=0, most=10), "[0.5, 0.5, 0.5]", count=3),
        "trunk": Target({}),
    },
    "method": Target({"name": label}),
    "train": {
        "classes": whole(1, BIG),
        "per_class": whole(1, BIG),
        "epochs": whole(0, BIG),  # 0: a study scores the untrained network; training takes 1
        "lr": real(above=0),
        "warmup": real(0),
        "weight_decay": real(0),
        "head_lr": real(above=0),
        "precision": one_of("float32", "bfloat16"),
        "trunk": one_of("trained", "frozen"),
        "select": one_of("last", "best", "best_map@r"),
    },
    "evaluate": {
        "batch_size": whole(1, 65_536),
        "untrained": flag,
        "bootstrap": whole(0, BIG),
        "nmi_seeds": whole(0, BIG),
        "memory_mib": whole(16, 2**24),
    },
    "index": {
        "splits": several(one_of("train", "val", "test"), "[train, val, test]"),
        "kind": one_of("auto", "flat", "hnsw", "ivf_pq"),
        "flat_up_to": whole(0, 2**31 - 1),
        "hnsw_up_to": whole(0, 2**31 - 1),
        "hnsw": {
            "M": whole(4, 4096),
            "ef_construction": whole(4, 4096),
            "ef_search": whole(4, 4096),
        },
        "ivf_pq": {
            "nlist": maybe(whole(1, 2**20)),
            "nprobe": whole(1, 2**20),
            "m": maybe(whole(1, 2**20)),
        },
        "thumbnail": whole(0, 4096),
        "seed": whole(0, SEEDS),
    },
    "cluster": {
        "address": maybe(text),
        "num_cpus": maybe(whole(1, BIG)),
        "num_workers": workers,
        "use_gpu": flag,
        "resources_per_worker": mapping(real(0, BIG), "{CPU: 1}"),
        "max_failures": whole(-1, BIG),
        "checkpoint": {
            "every_seconds": maybe(real(above=0)),
            "every_steps": maybe(whole(1)),
            "keep": whole(1, BIG),
        },
        "grace_seconds": real(above=0, most=DAY),
        "elastic_seconds": real(above=0, most=DAY),
        "storage": maybe(storage),
        "input": one_of("auto", "decoded", "shards", "ray"),
        "input_threads": maybe(whole(1, 1024)),
        "cache_folder": text,
        "decoded_gib": real(0),
        "gallery_shards": maybe(whole(1, BIG)),
    },
    "tracking": {
        "enabled": flag,
        "experiment": maybe(text),
        "registered_model": maybe(text),
    },
    "seed": whole(0, SEEDS),
}


def check_params(params: Mapping[str, Any], schema: Mapping[str, Any] = SCHEMA) -> None:
    """Look at every parameter of a run.

    Raises:
        Missing, BadSetting: the first that is absent, unknown or of a wrong kind.
    """
    _check_group("", params, schema)
    if params["tracking"]["enabled"] and params["tracking"]["experiment"] is None:
        key = "tracking.experiment"
        raise BadSetting(key, f"{key} is None; name one, or set tracking.enabled to false.")


def check_group(name: str, group: object) -> None:
    """As `check_params`, of one group, such as `index`."""
    _check_group(name, group, SCHEMA[name])


def nearest(full: str) -> str | None:
    """The known path that is nearest to one that is not; None where none is near."""
    if full in MEANT or full in KEYS:
        return MEANT.get(full) or KEYS[full]
    above, _, key = full.rpartition(".")
    known = list(keys())
    same = [each for each in known if each.rpartition(".")[2] == key and each != full]
    here = {each.rpartition(".")[2]: each for each in known if each.rpartition(".")[0] == above}
    near = difflib.get_close_matches(key, here, n=1)
    others = [each for each in known if not full.startswith(f"{each}.")]
    far = difflib.get_close_matches(full, others, n=1, cutoff=0.75)
    return next(iter([*same, *(here[each] for each in near), *far]), None)


def keys(schema: Mapping[str, Any] = SCHEMA, above: str = "") -> Iterator[str]:
    """The path of every parameter."""
    for key, entry in schema.items():
        yield f"{above}{key}"
        if isinstance(entry, dict):
            yield from keys(entry, f"{above}{key}.")


def _check_group(name: str, group: object, schema: Mapping[str, Any]) -> None:
    group = _mapping(name, group)
    for key, sentence in old_names(name, group):
        raise BadSetting(key, sentence)
    if strange := [key for key in group if key not in schema]:
        full = f"{name}.{strange[0]}".lstrip(".")
        near = nearest(full)
        hint = f"; the nearest known is {near}" if near else ""
        raise BadSetting(full, f"{full} is unknown; accepted: {', '.join(schema)}{hint}.")
    for key, entry in schema.items():
        full = f"{name}.{key}".lstrip(".")
        if key not in group:
            raise Missing(full, f"{full} is missing.")
        if isinstance(entry, dict):
            _check_group(full, group[key], entry)
        elif isinstance(entry, Target):
            _check_target(full, group[key], entry)
        else:
            _check_value(full, group[key], entry)


def _check_target(name: str, group: object, entry: Target) -> None:
    group = _mapping(name, group)
    for key, rule in entry.also.items():
        if key not in group:
            raise Missing(f"{name}.{key}", f"{name}.{key} is missing.")
        _check_value(f"{name}.{key}", group[key], rule)
    target = f"{name}._target_"
    if "_target_" not in group:
        raise BadSetting(
            target, f"{name} has no _target_; the files of conf/ show which there are."
        )
    _check_value(target, group["_target_"], text)


def _check_value(name: str, value: object, rule: Rule) -> None:
    try:
        rule(name, value)
    except UserError as error:
        raise BadSetting(name, without_secrets(str(error))) from None


def _mapping(name: str, group: object) -> Mapping[str, Any]:
    if isinstance(group, Mapping):
        return group
    raise BadSetting(
        name, f"{name} is {format_value(group)}; it must be a group of settings, as in conf/."
    )
