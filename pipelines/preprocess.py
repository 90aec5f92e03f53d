"""Stage 2: data/raw/<dataset>/ -> data/shards/<dataset>/ (Parquet shards, manifest.json)."""

import time
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from rhs.cluster import connect
from rhs.data.preprocess import preprocess
from rhs.datasets.raw import read_raw
from rhs.stage import plain, stage


def main(params: DictConfig) -> None:
    name = params.dataset.name
    read_raw(Path("data/raw", name))  # before Ray's seconds: is it there?
    start = time.monotonic()
    connect(params.cluster)
    connected = time.monotonic()
    split = {key: params.dataset[key] for key in ("train_classes", "test_classes", "validation")}
    split["across_classes"] = params.dataset.copies_across_classes
    settings = plain(OmegaConf.create({**params.preprocess, **split}))
    manifest = preprocess(Path("data/raw", name), Path("data/shards", name), **settings)
    for split, counts in manifest["splits"].items():
        print(f"preprocess: {split} {counts['images']:,} images of {counts['classes']:,} classes")
    for warning in manifest["warnings"]:
        print(f"preprocess: {warning}")
    print(
        f"preprocess: Ray started in {connected - start:.1f} s, "
        f"the work took {time.monotonic() - connected:.1f} s"
    )


if __name__ == "__main__":
    stage(main)
