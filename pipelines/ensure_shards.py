"""A data set's shards, made unless they are there: for commands that are no stages."""

import json
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from pipelines import fetch, preprocess
from rhs.config.settings import Params
from rhs.data.shards import load_manifest
from rhs.datasets.input_guard import refuse_inputs
from rhs.datasets.source_fingerprints import look_at_source, seen_of
from rhs.errors import UserError

# Parameters of a data set that shape its shards, by the names that the manifest has for them.
DATASET = {
    "train_classes": "train_classes",
    "test_classes": "test_classes",
    "validation": "validation",
    "copies_across_classes": "across_classes",
}


def prepared(params: Params) -> Path:
    """The shards of a data set, made unless they are there from this source with these settings.

    Raises:
        UserError: what `fetch` and `preprocess` raise, and `rhs.storage.outputs.refuse_inputs`.
    """
    refuse_inputs(params)
    shards = Path("data/shards", params.dataset.name)
    if not (shards / "manifest.json").exists() or not is_of(params, shards):
        fetch.main(params)
        preprocess.main(params)
    return shards


def is_of(params: Params, shards: Path) -> bool:
    """Whether shards were made from this source with these settings."""
    dataset, made = asdict(params.dataset), load_manifest(shards).get("settings", {})
    wanted = {DATASET[key]: dataset[key] for key in DATASET}
    raw = Path("data/raw", params.dataset.name, "source.json")
    fetched = json.loads(raw.read_text()) if raw.exists() else {}
    asked = {"source": str(dataset["source"]), "fetch": dataset["fetch"]}
    if any(fetched.get(key, value) != value for key, value in asked.items()):
        return False
    if fetched.get("inputs") and _is_other(dataset, fetched["inputs"]):
        return False
    return all(
        made.get(key) == value for key, value in (asdict(params.preprocess) | wanted).items()
    )


def _is_other(dataset: dict, looked: dict) -> bool:
    """Whether the source has changed since then; not, where it is no longer there."""
    with seen_of(dataset["name"]) as seen, suppress(UserError):
        return look_at_source(dataset, seen) != looked
    return False
