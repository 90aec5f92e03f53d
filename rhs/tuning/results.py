"""Writes a search's tables, plots, and the experiment file of its best setting."""

import json
import time
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from rhs.config.overrides import assigned
from rhs.config.redact import without_secrets
from rhs.config.settings import Params
from rhs.errors import UserError
from rhs.run import code_digest
from rhs.storage.atomic import atomic_folder
from rhs.storage.csv_lists import csv_text
from rhs.storage.outputs import RESULTS
from rhs.storage.store import FolderStore
from rhs.tuning.search import SearchResult
from rhs.tuning.search_space import is_group
from rhs.tuning.settings import TuneSettings
from rhs.tuning.trial_log import TrialLog

MARK = "# Found by pipelines.tune"
HOW = ("cluster", "tracking")  # groups that no result depends on
ENOUGH = 4  # trials, for importances to mean something


@dataclass(frozen=True)
class Provenance:
    """Where results come from.

    Attributes:
        command: that made them.
        digests: of the shards, by data set.
        machine: that trained; empty where it is not recorded.
        code: digest of the code that trained.
        date: of the end, as YYYY-MM-DD.
    """

    command: str
    digests: Mapping[str, str]
    machine: str = ""
    code: str = field(default_factory=code_digest)
    date: str = field(default_factory=lambda: time.strftime("%Y-%m-%d", time.gmtime()))


def experiment_file(name: str) -> Path:
    """Where the best setting is written.

    Raises:
        UserError: a file is there that no search has written.
    """
    file = Path("conf/experiment", f"{name}.yaml")
    if file.exists() and MARK not in file.read_text(encoding="utf-8"):
        raise UserError(
            f"{file} was not written by a search and would be replaced: choose another tune.name."
        )
    return file


def write_experiment(
    base: list[str], settings: TuneSettings, found: SearchResult, provenance: Provenance
) -> Path:
    """Write `conf/experiment/<name>.yaml`, which is the best setting with all that it needs."""
    file = experiment_file(settings.name)
    states = Counter(trial["state"] for trial in found.trials)
    setting = as_config([*_chosen(base, settings, found), *found.overrides])
    best = found.trials[found.number]
    data = ", ".join(f"{name} {digest[:16]}" for name, digest in provenance.digests.items())
    command = without_secrets(provenance.command)
    lines = [
        "# @package _global_",
        f"{MARK}; the next search of this name replaces it.",
        f"#   command:    {command}",
        f"#   data:       {data}",
        f"#   objective:  {settings.objective} {found.value:.2%} on held-out training classes",
        f"#   trial:      {found.number}, best after epoch {best['best_epoch']}",
        f"#   trials:     {states['finished']} finished, {states['stopped']} stopped early, "
        f"{states['failed']} failed",
        f"#   code:       {provenance.code[:16]}",
        f"#   date:       {provenance.date}",
        setting,
    ]
    FolderStore(file.parent).write(file.name, "\n".join(lines).encode())
    if without_secrets(setting) != setting:
        print(
            f"note: {file} holds an address with a password or token, which it needs: share neither"
        )
    return file


def _chosen(base: list[str], settings: TuneSettings, found: SearchResult) -> list[str]:
    """The shared overrides, and that the best epoch becomes the model, by what the search asked."""
    said = [assigned(override)[0] for override in [*base, *found.overrides]]
    return base if "train.select" in said else [*base, f"train.select={settings.select}"]


def as_config(overrides: list[str]) -> str:
    """Overrides as the YAML of an experiment.

    Raises:
        UserError: an override that is none of `path=value`.
    """
    chosen: dict[str, str] = {}
    values: dict[str, Any] = {}
    for path, value in (assigned(override) for override in overrides):
        if path.split(".")[0] in HOW:
            continue
        if is_group(path):
            chosen[path] = value
        else:
            values[path] = value
    experiment = chosen.pop("experiment", None)
    defaults: list[Any] = [experiment] if experiment else []
    defaults += ["_self_", *({f"override /{group}": name} for group, name in chosen.items())]
    tree = OmegaConf.create({"defaults": defaults})
    for path, value in values.items():
        OmegaConf.update(tree, path, value)
    return OmegaConf.to_yaml(tree)


def write_results(
    folder: Path,
    settings: TuneSettings,
    found: SearchResult,
    base: Params,
    provenance: Provenance,
) -> None:
    """Write trials.csv, best.json and the pictures into `folder`."""
    from rhs.tuning.plots import draw_all

    record = TrialLog(found.folder / "trials.jsonl")
    ((data, digest),) = provenance.digests.items()
    trials = record.trials[: settings.trials]
    with atomic_folder(folder, RESULTS) as out:
        (out / "trials.csv").write_text(_table(found.trials), encoding="utf-8")
        best = {
            "name": settings.name,
            "objective": settings.objective,
            "value": found.value,
            "overrides": found.overrides,
            "trial": found.number,
            "epoch": found.trials[found.number]["best_epoch"],
            "trials": Counter(trial["state"] for trial in found.trials),
            "command": without_secrets(provenance.command),
            "data": data,
            "digest": digest,
            "code": provenance.code,
            "date": provenance.date,
        }
        (out / "best.json").write_text(json.dumps(best, indent=1) + "\n", encoding="utf-8")
        mattered = importances(settings, record, base)
        draw_all(out, trials, settings.dimensions, settings.objective, mattered)


def _table(trials: list[dict]) -> str:
    """A row a trial, a column a parameter."""
    paths = list(dict.fromkeys(path for trial in trials for path in trial["values"]))
    about = ("number", "state", "objective", "best_epoch", "epochs")
    rows = [[*about, *paths, "reason"]]
    for trial in trials:
        values = [trial["values"].get(path, "") for path in paths]
        rows.append([*(trial[name] for name in about), *values, trial["reason"]])
    return csv_text(rows)


def importances(settings: TuneSettings, record: TrialLog, base: Params) -> dict[str, float]:
    """The share of the objective's variance that each parameter explains, most first.

    By fANOVA, of the parameters that all trials have; {} where trials are too few or all alike.
    """
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    from rhs.tuning.searcher import optuna_study

    study = optuna_study(settings, record, base)
    done = [trial for trial in study.trials if trial.value is not None]
    common = set.intersection(*(set(trial.params) for trial in done)) if done else set()
    varied = [path for path in common if len({trial.params[path] for trial in done}) > 1]
    if len(done) < ENOUGH or not varied or len({trial.value for trial in done}) == 1:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what is experimental
        evaluator = FanovaImportanceEvaluator(seed=settings.seed)
        return dict(get_param_importances(study, evaluator=evaluator, params=sorted(varied)))
