"""Stage 1: what exists in the world -> data/raw/<dataset>/ (index.parquet, source.json)."""

import json
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from rhs.config.instantiate import build
from rhs.config.settings import Params
from rhs.config.target_checks import check_target
from rhs.datasets.download.downloads import Downloads
from rhs.datasets.raw_folder import folder_name
from rhs.datasets.source_fingerprints import look_at_source, seen_of
from rhs.errors import UserError
from rhs.stage import stage
from rhs.storage.store import FolderStore

WITHIN = "rhs.datasets."


def main(params: Params) -> None:
    start = time.monotonic()
    out = Path("data/raw", folder_name(params.dataset.name))
    recipe, source = params.dataset.fetch, str(params.dataset.source)
    check_target("dataset.fetch", recipe, WITHIN, given=("out", "source", "downloads"))
    downloads = Downloads(**asdict(params.fetch) | {"folder": str(params.fetch.folder)})
    seen, looked = seen_of(out.name), None
    with suppress(UserError):  # what is not there is refused by the recipe, which knows its kinds
        # Before anything is read for good: a later change is noticed.
        looked = look_at_source(asdict(params.dataset), seen)
    made = build(recipe, within=WITHIN, out=out, source=source, downloads=downloads)
    told = json.dumps(made | {"fetch": recipe, "inputs": looked}, indent=1, ensure_ascii=False)
    FolderStore(out).write("source.json", f"{told}\n".encode())
    seen.save()
    named = out / ("refused.csv" if (out / "refused.csv").exists() else "source.json")
    refused = f", {len(made['refused'])} entries refused ({named})" if made["refused"] else ""
    print(
        f"fetch: {made['images']:,} images of {made['classes']:,} classes in {out}{refused} "
        f"({time.monotonic() - start:.1f} s)"
    )


if __name__ == "__main__":
    stage(main)
