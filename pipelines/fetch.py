"""Stage 1: what exists in the world -> data/raw/<dataset>/ (index.parquet, source.json)."""

import inspect
import json
import time
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from rhs.build import build
from rhs.datasets.download import Downloads
from rhs.datasets.raw import folder_name
from rhs.errors import UserError
from rhs.places import is_utf_8
from rhs.stage import plain, stage
from rhs.storage.store import Folder


def main(params: DictConfig) -> None:
    start = time.monotonic()
    _group(params, "dataset")
    out = Path("data/raw", folder_name(params.dataset.get("name")))
    recipe = _group(params, "dataset.fetch")
    if "_target_" not in recipe:
        raise UserError("dataset.fetch has no _target_; conf/dataset shows which there are.")
    source = _path("dataset.source", params.dataset.get("source"))
    downloads = _downloads(_group(params, "fetch"))
    made = build(recipe, within="rhs.datasets.", out=out, source=source, downloads=downloads)
    told = json.dumps(made | {"fetch": recipe}, indent=1, ensure_ascii=False)
    Folder(out).write("source.json", f"{told}\n".encode())
    named = out / ("refused.csv" if (out / "refused.csv").exists() else "source.json")
    refused = f", {len(made['refused'])} entries refused ({named})" if made["refused"] else ""
    print(
        f"fetch: {made['images']:,} images of {made['classes']:,} classes in {out}{refused} "
        f"({time.monotonic() - start:.1f} s)"
    )


def _group(params: DictConfig, name: str) -> dict[str, Any]:
    group = OmegaConf.select(params, name)
    if not isinstance(group, DictConfig):
        raise UserError(f"{name} is {group!r}; it must be a group of settings, as in conf/.")
    return plain(group)


def _path(name: str, value: object) -> str:
    """A folder 2024 comes from the command line as a number."""
    if isinstance(value, bool) or not isinstance(value, (str, int)) or not str(value).strip():
        raise UserError(f"{name} is {value!r}; it must be the path of a file or folder.")
    if not is_utf_8(path := str(value)):
        raise UserError(f"{name} is {path!r}, which is not UTF-8: give the file another name.")
    return path


def _downloads(settings: dict[str, Any]) -> Downloads:
    accepted = inspect.signature(Downloads).parameters
    if unknown := sorted(set(settings) - set(accepted)):
        raise UserError(f"fetch.{unknown[0]} is unknown; accepted: {', '.join(accepted)}.")
    if "folder" in settings:
        settings["folder"] = _path("fetch.folder", settings["folder"])
    return Downloads(**settings)


if __name__ == "__main__":
    stage(main)
