"""Stage 1: what exists in the world -> data/raw/<dataset>/ (index.parquet, source.json)."""

import time
from pathlib import Path

from omegaconf import DictConfig

from rhs.build import build
from rhs.datasets.download import Downloads
from rhs.stage import plain, stage


def main(params: DictConfig) -> None:
    start = time.monotonic()
    dataset = params.dataset
    out = Path("data/raw", dataset.name)
    made = build(
        plain(dataset.fetch), within="rhs.datasets.", out=out, source=dataset.source,
        downloads=Downloads(**plain(params.fetch)),
    )  # fmt: skip
    refused = f", {len(made['refused'])} entries refused" if made["refused"] else ""
    print(
        f"fetch: {made['images']:,} images of {made['classes']:,} classes in {out}{refused} "
        f"({time.monotonic() - start:.1f} s)"
    )


if __name__ == "__main__":
    stage(main)
