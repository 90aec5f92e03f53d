"""Stage 2: data/raw/<dataset>/ -> data/shards/<dataset>/ (Parquet shards, manifest.json)."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rhs.config.settings import Params
from rhs.data.remote_shards import publish_shards
from rhs.datasets.raw_folder import folder_name, read_raw
from rhs.distributed.ray_cluster import connect
from rhs.preprocessing.preprocess import check_settings, preprocess
from rhs.stage import stage
from rhs.storage.store import is_url


def main(params: Params) -> None:
    name = folder_name(params.dataset.name)
    settings = _settings(params)
    read_raw(Path("data/raw", name))  # before Ray's seconds: is it there?
    start = time.monotonic()
    connect(params.cluster)
    connected = time.monotonic()
    manifest = preprocess(Path("data/raw", name), Path("data/shards", name), **settings)
    for split, counts in manifest["splits"].items():
        print(f"preprocess: {split} {counts['images']:,} images of {counts['classes']:,} classes")
    for warning in manifest["warnings"]:
        print(f"preprocess: {warning}")
    out = Path("data/shards", name)
    if lists := [str(p) for p in (out / "refused.csv", out / "kept.csv") if p.exists()]:
        print(f"preprocess: each is named in {' and '.join(lists)}")
    worked = time.monotonic()
    if is_url(storage := params.cluster.storage):
        new = publish_shards(Path("data/shards", name), storage, name)
        print(f"preprocess: {new} of {len(manifest['shards'])} shards put to {storage}")
    print(
        f"preprocess: Ray started in {connected - start:.1f} s, "
        f"the work took {worked - connected:.1f} s"
    )


def _settings(params: Params) -> dict[str, Any]:
    """The arguments of `preprocess`: a mistake in them is told before Ray starts."""
    settings, dataset = asdict(params.preprocess), asdict(params.dataset)
    names = {key: key for key in ("train_classes", "test_classes", "validation")}
    names["across_classes"] = "copies_across_classes"
    settings |= {key: dataset[name] for key, name in names.items()}
    check_settings(settings)
    return settings


if __name__ == "__main__":
    stage(main)
