"""The data report: shards alone -> data_report/index.html and data_report/duplicates.csv."""

from pathlib import Path

from rhs.config.settings import Params
from rhs.report.dataset.page import build_data_report
from rhs.stage import stage
from rhs.storage.atomic import atomic_folder
from rhs.storage.outputs import PAGES

OUT = Path("data_report")
SHEETS = 0  # draws the contact sheets: a run's own seed changes nothing about the data


def main(params: Params) -> None:
    with atomic_folder(OUT, PAGES) as folder:
        counts = build_data_report(
            out=folder,
            shards=Path("data/shards", params.dataset.name),
            seed=SHEETS,
            # Where a mirror image trains as the same thing, it is a copy of it.
            mirrored=params.dataset.augment.flip,
        )
    print(f"data_report: {counts['leak']:,} images with a copy across training and test")
    print(f"data_report: {counts['free']:,} test images with a copy in their own class")
    print(f"open {OUT / 'index.html'}")


if __name__ == "__main__":
    stage(main)
