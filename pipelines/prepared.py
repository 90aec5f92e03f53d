"""A data set's shards, made unless they are there: for commands that are no stages."""

from pathlib import Path

from omegaconf import DictConfig

from pipelines import fetch, preprocess
from rhs.data.shards import load_manifest
from rhs.stage import plain

DATASET = ("train_classes", "test_classes", "validation")  # what preprocess is told of it


def prepared(params: DictConfig) -> Path:
    """The shards of a data set, made unless they are there with these settings."""
    shards = Path("data/shards", params.dataset.name)
    wanted = plain(params.preprocess) | {key: plain(params.dataset).get(key) for key in DATASET}
    if (shards / "manifest.json").exists():
        made = load_manifest(shards).get("settings", {})
        if all(made.get(key) == value for key, value in wanted.items()):
            return shards
    fetch.main(params)
    preprocess.main(params)
    return shards
