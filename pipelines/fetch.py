"""Stage 1: what exists in the world -> data/raw/<dataset>/ (index.parquet, source.json)."""

import json
import time
from pathlib import Path

from omegaconf import DictConfig

from rhs.build import build
from rhs.datasets.download import Downloads
from rhs.datasets.inputs import look_at_source, seen_of
from rhs.datasets.raw import folder_name
from rhs.stage import plain, stage
from rhs.storage.store import Folder
from rhs.targets import check_target

WITHIN = "rhs.datasets."


def main(params: DictConfig) -> None:
    start = time.monotonic()
    out = Path("data/raw", folder_name(params.dataset.name))
    recipe, source = plain(params.dataset.fetch), str(params.dataset.source)
    check_target("dataset.fetch", recipe, WITHIN, given=("out", "source", "downloads"))
    downloads = Downloads(**plain(params.fetch) | {"folder": str(params.fetch.folder)})
    seen = seen_of(out.name)
    looked = look_at_source(plain(params.dataset), seen)  # before: a later change is noticed
    made = build(recipe, within=WITHIN, out=out, source=source, downloads=downloads)
    told = json.dumps(made | {"fetch": recipe, "inputs": looked}, indent=1, ensure_ascii=False)
    Folder(out).write("source.json", f"{told}\n".encode())
    seen.save()
    named = out / ("refused.csv" if (out / "refused.csv").exists() else "source.json")
    refused = f", {len(made['refused'])} entries refused ({named})" if made["refused"] else ""
    print(
        f"fetch: {made['images']:,} images of {made['classes']:,} classes in {out}{refused} "
        f"({time.monotonic() - start:.1f} s)"
    )


if __name__ == "__main__":
    stage(main)
