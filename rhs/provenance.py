"""What MLflow is told that a run is a function of: parameters, revision and data."""

import os
import subprocess
import warnings
from pathlib import Path
from typing import cast

from omegaconf import DictConfig, OmegaConf

from rhs.stage import plain

LONGEST = 500  # characters of a parameter: what MLflow's older servers take and a table can show


def describe(params: DictConfig, manifest: dict) -> None:
    """Parameters, revisions and the data set: what the run is a function of."""
    import mlflow
    from mlflow.data.dataset_source_registry import resolve_dataset_source
    from mlflow.data.meta_dataset import MetaDataset

    flat = flatten(plain(params))
    mlflow.log_params({name: shorten(value) for name, value in flat.items()})
    mlflow.log_text(OmegaConf.to_yaml(params, resolve=True), "params.yaml")
    shards = Path("data/shards", manifest["dataset"])
    tags = {"git.commit": _git_commit(), "data.digest": manifest["digest"], **_dvc(shards)}
    mlflow.set_tags(tags)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it matches two sources of one and the same kind
        source = resolve_dataset_source(str(shards.resolve()))
    # MLflow shortens digests to 36 characters; the whole one is the tag above.
    short = manifest["digest"][:36]
    dataset = MetaDataset(source, name=manifest["dataset"], digest=short)  # type: ignore[abstract]
    mlflow.log_input(dataset, context="train")


def flatten(tree: dict, prefix: str = "") -> dict[str, object]:
    """Nested parameters as one level of dotted names; lists and leaves stay as they are."""
    flat: dict[str, object] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def shorten(value: object) -> str:
    """The parameter's text; of a long one (a list of class names) its start and its length."""
    text = str(value)
    if len(text) <= LONGEST:
        return text
    told = f" … ({len(text):,} characters, whole in the artifact params.yaml)"
    return text[: LONGEST - len(told)] + told


def _git_commit() -> str:
    """The commit, marked when files differ from it; 'unknown' outside of a git checkout."""
    told = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty",
         "--abbrev=40", "--exclude=*"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return told.stdout.strip() or "unknown"


def _dvc(shards: Path) -> dict[str, str]:
    """What DVC calls the data and, in `dvc exp run`, the experiment; nothing outside of DVC."""
    names = {"dvc.experiment": "DVC_EXP_NAME", "dvc.baseline": "DVC_EXP_BASELINE_REV"}
    told = {tag: os.environ[name] for tag, name in names.items() if os.environ.get(name)}
    lock = Path("dvc.lock")
    if "DVC_STAGE" in os.environ and lock.exists():  # else the lock may be of another run
        for stage in cast(dict, OmegaConf.load(lock))["stages"].values():
            for out in stage.get("outs", []):
                if out["path"] == str(shards):
                    told["dvc.shards"] = out["md5"]
    return told
