"""What the project writes, and that it never replaces or deletes anything else.

Stages replace their outputs whole, and DVC may delete what lies in them. So nothing that a
parameter names may lie there (see `rhs.datasets.input_guard`), and a folder that holds what no
stage made is not replaced (`refuse_others`, see `rhs.storage.atomic`).

The standard library alone is needed to import this: `make clean` does.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from rhs.errors import UserError

LISTS = ("refused.csv", "kept.csv", "passed_over.csv", "respelled.csv")
RAW = ("index.parquet", "source.json", "glyphs.tar", "images.tar", "*/images.tar", *LISTS)
SHARDS = ("manifest.json", "*-[0-9][0-9][0-9][0-9][0-9].parquet", *LISTS)
MODEL = ("config.json", "model.safetensors", "history.csv", "sha256.json")
EMBEDDINGS = ("*-[0-9][0-9][0-9][0-9][0-9].parquet",)
INDEX = ("index.json", "index.faiss", "items.parquet", "left_out.txt")
PAGES = ("index.html", "failures.html", "explorer.html", "duplicates.csv")
# Of a search, and of a study.
RESULTS = (
    "trials.csv",
    "best.json",
    "history.png",
    "parallel_coordinates.png",
    "importance.png",
    "table.md",
    "table.csv",
    "cells.csv",
    "scores.png",
    "differences.png",
)
CACHE = ("pixels", "shapes.npy", "features.npy", "manifest.json", "*-[0-9]*.parquet")
ANYTHING = ("**",)
RUN = (
    "checkpoints/[0-9]*.json",
    "checkpoints/[0-9]*.safetensors",
    "checkpoints/owner",
    "checkpoints/writer",
    "checkpoints/lease.json",
    "checkpoints/.lock",
    "log.txt",
    "epochs.jsonl",
    "metrics.jsonl",
    "metrics.sent",
    "mlflow_run_id",
    "failure.txt",
    "embeddings/*.parquet",
    ".embeddings.lock",
    "collapse.json",
    "collapse.jsonl",
    "benchmark_*.json",
)

# Outputs, and what their files are called. `*` is a folder for each data set, run or such.
OUTPUTS: dict[str, Sequence[str]] = {
    "data/inputs/*": ("source.json", "classes.json"),
    "data/raw/*": RAW,
    "data/shards/*": SHARDS,
    "data/decoded/*": CACHE,
    "data_report": PAGES,
    "models/*": MODEL,
    "embeddings/*": EMBEDDINGS,
    "index/*": INDEX,
    "report": PAGES,
    "runs/*": RUN,
    "runs/ray": ANYTHING,
    "dvc_plots": ("*.html", "*.json", "static/*"),
}
FILES = ("metrics.json",)
# Nothing deletes these, but the project writes there too.
KEPT = ("tuning", "studies", "mlflow.db", "mlruns", "mlartifacts")
MARKS = {RAW: "index.parquet", SHARDS: "manifest.json", MODEL: "config.json"}
PLACES = (*(name.removesuffix("/*") for name in OUTPUTS if name != "runs/ray"), *FILES, *KEPT)
SYSTEMS = (".DS_Store", "._*", "Thumbs.db", "[Dd]esktop.ini", "@eaDir", ".nfs*")
INSTEAD = "data/originals"


def others(folder: Path, made: Sequence[str]) -> Iterator[Path]:
    """What lies in a folder, however deep, and is none of ours: sorted paths, relative.

    What operating systems leave (.DS_Store) is nobody's. Links are not followed. Where the file is
    missing that tells what made the folder, nothing in it is ours.

    Args:
        made: patterns of the names of our own files.
    """
    mark = MARKS.get(tuple(made))
    if mark and not folder.name.startswith(".") and not (folder / mark).exists():
        made = ()
    for place, folders, files in os.walk(folder):
        folders.sort()
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        folders[:] = [name for name in folders if not is_of_system(name)]
        for name in sorted([*files, *links]):
            path = Path(place, name).relative_to(folder)
            if not is_of_system(name) and not is_made(path, made):
                yield path


def is_made(path: Path, made: Sequence[str]) -> bool:
    """Whether a file of that relative path is ours: one of the patterns, or half written.

    A pattern without a folder is not met by a path with one.
    """
    parts = path.parts
    if half := re.fullmatch(r"\.(.+?)(\.[0-9a-f]{8})?\.tmp", parts[-1]):
        parts = (*parts[:-1], half[1])
    return made == ANYTHING or any(
        len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted))
        for wanted in (pattern.split("/") for pattern in made)
    )


def is_of_system(name: str) -> bool:
    """Whether an operating system leaves files or folders of that name."""
    return any(fnmatchcase(name, pattern) for pattern in SYSTEMS)


def refuse_others(folder: Path, made: Sequence[str]) -> None:
    """Raises UserError if `folder`, which is to be replaced, holds what is none of ours, or is a
    file."""
    if folder.is_file():
        raise UserError(f"{folder} is a file, and a folder is to be made there: move it elsewhere.")
    if (other := next(others(folder, made), None)) is not None:
        raise UserError(
            f"{folder} holds {shown(other)}, which no stage made, and would be replaced with all "
            f"that is in it: move that elsewhere, for instance to {INSTEAD}."
        )


def refuse_outputs(params: Any, root: Path) -> None:
    """`refuse_others` for everything that DVC puts in order in a project before a run.

    Args:
        params: of the run.
        root: the project.
    """
    name = select(params, "dataset.name")
    for output, made in OUTPUTS.items():
        if output.startswith(("runs/", "data/decoded/", "dvc_plots")):  # none of DVC's
            continue
        if not output.endswith("/*"):
            refuse_others(root / output, made)
        elif isinstance(name, str) and name:
            refuse_others(root / output[:-1] / name, made)


def select(params: Any, name: str) -> Any:
    """A parameter; None where it, or a group above it, is missing."""
    for part in name.split("."):
        params = params.get(part) if isinstance(params, Mapping) else getattr(params, part, None)
    return params


def shown(path: str | Path) -> str:
    """A path on one line of any terminal."""
    return os.fsencode(path).decode("utf-8", "backslashreplace").replace("\n", "\\n")
