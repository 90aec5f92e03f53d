"""What MLflow is told that a run is a function of: parameters, revision and data."""

import os
import subprocess
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf

from rhs.config.compose import flatten
from rhs.config.redact import redacted

LONGEST = 500  # characters of a parameter: what MLflow's older servers take and a table can show
AT_ONCE = 100  # parameters that MLflow takes in one call


def describe(client: Any, found: Any, params: Any, manifest: dict) -> None:
    """Parameters, revisions and the data set: what the run is a function of. No secrets.

    Args:
        client: of MLflow.
        params: see `rhs.tracking.tracker.tracked`.
        found: the MLflow run; what an interrupted try has described stays.
    """
    from mlflow.data.dataset_source_registry import resolve_dataset_source
    from mlflow.data.meta_dataset import MetaDataset
    from mlflow.entities import DatasetInput, InputTag, Param, RunTag

    run_id, shown = found.info.run_id, redacted(asdict(params))
    new = {k: v for k, v in flatten(shown).items() if k not in found.data.params}
    entries = [Param(name, shorten(value)) for name, value in new.items()]
    for start in range(0, len(entries), AT_ONCE):
        client.log_batch(run_id, params=entries[start : start + AT_ONCE])
    client.log_text(run_id, OmegaConf.to_yaml(shown), "params.yaml")
    shards = Path("data/shards", manifest["dataset"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it matches two sources of one and the same kind
        source = resolve_dataset_source(str(shards.resolve()))
    # MLflow shortens digests to 36 characters; the whole one is the tag below.
    short = manifest["digest"][:36]
    dataset = MetaDataset(source, name=manifest["dataset"], digest=short)  # type: ignore[abstract]
    context = [InputTag("mlflow.data.context", "train")]
    client.log_inputs(run_id, [DatasetInput(dataset._to_mlflow_entity(), context)])
    tags = {"git.commit": _git_commit(), "data.digest": manifest["digest"], **_dvc(shards)}
    client.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])


def shorten(value: object) -> str:
    """The parameter's text; of a long one (a list of class names) its start and its length."""
    text = str(value)
    if len(text) <= LONGEST:
        return text
    told = f" … ({len(text):,} characters, whole in the artifact params.yaml)"
    return text[: LONGEST - len(told)] + told


def _git_commit() -> str:
    """RHS_REVISION, else the commit, marked when files differ from it; 'unknown' without either."""
    # A job's copy of the code has no git; who submits it can say.
    if told := os.environ.get("RHS_REVISION"):
        return told
    try:
        git = subprocess.run(
            [
                "git",
                "-C",
                str(Path(__file__).parent),
                "describe",
                "--always",
                "--dirty",
                "--abbrev=40",
                "--exclude=*",
            ],
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:  # git is not installed
        return "unknown"
    return git.stdout.strip() or "unknown"


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
