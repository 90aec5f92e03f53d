"""The files of `conf/method/`, each of which describes a loss, by their names."""

import difflib
import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

import yaml

import rhs
from rhs.errors import UserError

PACKAGE = Path(rhs.__file__).parent
PLACES = (PACKAGE / "conf" / "method", PACKAGE.parent / "conf" / "method")  # wheel, repository


def list_losses(filter: str = "*") -> list[str]:
    """Names that `create_loss` takes, sorted.

    Args:
        filter: a pattern of file names, such as `rhs*` or `*triplet*`.
    """
    return sorted(fnmatch.filter(_files(), filter))


def loss_settings(name: str) -> dict[str, Any]:
    """The settings of a loss, as its file has them. Raises UserError if there is none."""
    files = _files()
    if name not in files:
        near = difflib.get_close_matches(str(name), files, n=3, cutoff=0.4)
        nearest = f" The nearest: {', '.join(near)}." if near else ""
        raise UserError(f"There is no loss {name!r}; rhs.list_losses() names all.{nearest}")
    return yaml.safe_load(files[name].read_text(encoding="utf-8"))


@cache
def _files() -> dict[str, Path]:
    folder = next((place for place in PLACES if place.is_dir()), None)
    if folder is None:
        raise UserError(f"{PLACES[0]} is missing: install rhs-dml again.")
    return {file.stem: file for file in folder.glob("*.yaml")}
