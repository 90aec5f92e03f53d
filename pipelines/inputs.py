"""Stage 0: what lies where parameters point -> data/inputs/<dataset>/, for DVC to depend on.

It runs every time, and reads again only what has changed. Before that it says what this run no
longer has of what was chosen before.
"""

import json
import os
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rhs.config.changed_choices import notice
from rhs.config.redact import without_secrets
from rhs.config.settings import Params
from rhs.config.yaml_file import read_yaml
from rhs.datasets.raw_folder import folder_name
from rhs.datasets.source_fingerprints import INPUTS, look_at_classes, look_at_source, seen_of
from rhs.errors import UserError
from rhs.paths import project_folder
from rhs.stage import stage
from rhs.storage.store import FolderStore

LAST = ".last.json"  # parameters of the last run; beside the folders of data sets


def main(params: Params) -> None:
    everything = asdict(params)
    for line in _notice(everything):
        print(f"inputs: {line}", flush=True)
    _remember(everything)
    dataset = everything["dataset"]
    name = folder_name(dataset["name"])
    with seen_of(name) as seen:
        source = look_at_source(dataset, seen)
        classes = look_at_classes(dataset, seen)
    written = [_write(name, "source", source), _write(name, "classes", classes)]
    files = sum(each["files"] for each in source.values())
    change = ", changed" if "changed" in written else ""
    print(f"inputs: {without_secrets(str(dataset['source']))}: {_counted(files)}{change}")


def _counted(files: int) -> str:
    return f"{files:,} file{'' if files == 1 else 's'}"


def _write(name: str, what: str, looked: dict[str, Any]) -> str | None:
    """Write <what>.json unless it says so already; "changed" where it said something else."""
    folder, file = FolderStore(INPUTS / name), f"{what}.json"
    data = f"{json.dumps(looked, indent=1)}\n".encode()
    there = (folder.path / file).exists()
    if there and folder.read(file) == data:
        return None
    folder.write(file, data)
    return "changed" if there else None


def _notice(now: dict[str, Any]) -> list[str]:
    before = os.environ.get("RHS_PARAMS_BEFORE")  # see pipelines/hydra_plugins
    given = os.environ.get("RHS_PARAMS_GIVEN", "").splitlines()
    return notice(now, _read(project_folder() / INPUTS / LAST), _read(before), given)


def _read(file: str | Path | None) -> dict[str, Any] | None:
    """Parameters that a file holds; None where it is not there, or no longer holds any."""
    with suppress(UserError):
        return read_yaml(Path(file)) if file else None
    return None


def _remember(now: dict[str, Any]) -> None:
    """A queued experiment is not the last run of the project itself."""
    if project_folder() == Path.cwd():
        FolderStore(INPUTS).write(LAST, json.dumps(now).encode())


if __name__ == "__main__":
    stage(main)
