"""What a run's parameters choose, and what of earlier choices a run no longer has.

`dvc exp run` composes params.yaml anew from conf/ with the overrides of its own command line. What
an earlier command chose, or an editor wrote, is gone then. Here that is said, with the command that
keeps it.
"""

import re
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rhs.config.compose import compose, flatten, to_container
from rhs.config.overrides import as_text
from rhs.config.quoting import parse_override
from rhs.config.redact import redacted, without_secrets
from rhs.config.yaml_file import read_yaml
from rhs.errors import UserError

CONF = Path("conf")
IDENTITY = ("name", "source", "fetch")  # of a data set
LONGEST = 1500  # characters of a command that is worth showing
MOST = 8  # parameters that are named
Params = dict[str, Any]


def notice(
    now: Params, ran: Params | None, edited: Params | None, given: Sequence[str] = ()
) -> list[str]:
    """Lines that say what a run no longer has; [] where that is nothing.

    Args:
        now: the parameters of the run that begins.
        ran: those of the run before.
        edited: what params.yaml held before it was composed anew; None where it was not.
        given: overrides of the command line: what they set is not lost but chosen.
    """
    new = chosen(now)
    lost = _lost(new, chosen(edited), given) if edited else {}
    other = ran if ran and _identity(ran) != _identity(now) else None
    if not other and edited and any(map(_of_dataset, lost)):
        other = edited if _identity(edited) != _identity(now) else None
    rest = {key: old for key, old in lost.items() if not (other and _of_dataset(key))}
    lines = []
    if other:
        was = _label(other)
        lines.append(f"the data set changes: this run is on {_label(now)}, the last was on {was}")
    if rest:
        lines.append(f"no longer in params.yaml, composed anew: {_named(rest, now, new)}")
    if lines:
        kept = rest | new
        if other:
            kept = {key: value for key, value in kept.items() if not _of_dataset(key)}
            kept |= {key: value for key, value in chosen(other).items() if _of_dataset(key)}
        lines.append(_to_keep(kept))
    return lines


def chosen(params: Params) -> Params:
    """What differs from the defaults of conf/: {"dataset": "folder", "train.epochs": 20}.

    A group is named by the file that it differs least from, and then what differs still.
    """
    return _differing_from(params, {})


def overrides_for(params: Params) -> list[str] | None:
    """The fewest overrides that compose to these parameters; None where none do."""
    groups = _groups() | _differing_from(params, {})
    files = [file for file in sorted(CONF.glob("experiment/*.yaml")) if _fits(file, groups)]
    candidates = []
    for start in [[], *([f"experiment={file.stem}"] for file in files)]:
        base = _composed(start)
        if base is not None:
            candidates.append([*start, *_written(_differing_from(params, base))])
    candidates.sort(key=len)
    return next((each for each in candidates if _composed(each) == params), None)


def _fits(experiment: Path, groups: Params) -> bool:
    """Whether an experiment's file takes no other file of a group than is wanted."""
    taken = re.findall(r"override /(\w+): *(\w+)", experiment.read_text(encoding="utf-8"))
    return all(groups.get(group) == name for group, name in taken)


def _differing_from(params: Params, base: Params) -> Params:
    """The files of groups, and the leaves, that make `params` of `base`; {}: of the defaults."""
    result: Params = {}
    for group, default in _groups().items():
        files = _files(group, params)
        start = base.get(group, files.get(default))
        differing = {"": _differing(params.get(group), start, group)}
        for name, content in files.items():
            differing[name] = _differing(params.get(group), content, group)
        best = min(differing, key=lambda name: (len(differing[name]) + bool(name), name))
        if best:
            result[group] = best
        result |= differing[best]
    values = {key: base.get(key, value) for key, value in _config().items() if key != "defaults"}
    differ = [key for key, value in values.items() if key in params and params[key] != value]
    return result | {key: params[key] for key in differ}


def _composed(overrides: list[str]) -> Params | None:
    """None where they cannot be: an experiment's file is broken, or no override can say it."""
    try:
        return asdict(compose(overrides))
    except UserError:
        return None


def _lost(new: Params, mine: Params, given: Sequence[str]) -> Params:
    keys = [each.partition("=")[0].lstrip("+~") for each in given]
    return {
        key: value
        for key, value in mine.items()
        if key not in new and not any(key == k or key.startswith(f"{k}.") for k in keys)
    }


def _to_keep(wanted: Params) -> str:
    kept = _composed(_written(wanted))
    overrides = overrides_for(kept) if kept is not None else None
    words = [word for each in overrides or [] for word in ("-S", _for_shell(each))]
    command = without_secrets(" ".join(["dvc exp run", *words]))
    if overrides is None or len(command) > LONGEST:
        return "to keep that, give each of these again with -S"
    return f"to keep that: {command}"


def _named(lost: Params, now: Params, new: Params) -> str:
    instead = flatten(now) | _groups() | new
    texts = []
    for key, old in list(lost.items())[:MOST]:
        arrow = f" -> {_short(key, instead[key])}" if key in instead else ""
        texts.append(f"{key} {_short(key, old)}{arrow}")
    more = f" and {len(lost) - MOST} more" if len(lost) > MOST else ""
    return ", ".join(texts) + more


def _short(key: str, value: Any) -> str:
    text = as_text(redacted(value, key.rpartition(".")[2])).strip("'")
    return text if len(text) <= 60 else f"{text[:57]}..."


def _label(params: Params) -> str:
    name, source, _ = _identity(params)
    recipe = str(source).startswith("rhs/datasets/")
    return f"{name}" if recipe else f"{name} ({without_secrets(str(source))})"


def _identity(params: Params) -> list[Any]:
    dataset = params.get("dataset")
    return [dataset.get(key) if isinstance(dataset, dict) else dataset for key in IDENTITY]


def _of_dataset(key: str) -> bool:
    return key.partition(".")[0] == "dataset"


def _written(values: Params) -> list[str]:
    return [_override(key, value) for key, value in values.items()]


def _override(key: str, value: Any) -> str:
    """With Hydra's quotation marks where it would read something else."""
    plainly = isinstance(value, str) and parse_override(f"{key}={value}") == (value,)
    return f"{key}={value if plainly else as_text(value)}"


def _for_shell(word: str) -> str:
    """Quoted for a shell, with double quotes where that is enough: a value may have single ones."""
    quoted = shlex.quote(word)
    return f'"{word}"' if quoted != word and not set(word) & set('"$`\\!') else quoted


def _differing(value: Any, other: Any, path: str) -> Params:
    """The leaves of `value` that differ from those of `other`, by path."""
    if isinstance(value, dict) and isinstance(other, dict):
        result: Params = {}
        for key in value:
            result |= _differing(value[key], other.get(key), f"{path}.{key}")
        return result | {f"{path}.{key}": None for key in other if key not in value}
    return {} if value == other else {path: value}


def _files(group: str, params: Params) -> dict[str, Params]:
    """The files of a group, and what each holds beside the other groups of `params`."""
    return {
        file.stem: _content(group, file, params) for file in sorted(CONF.glob(f"{group}/*.yaml"))
    }


def _content(group: str, file: Path, params: Params) -> Params:
    try:
        content = _loaded(file.resolve())
        if "${" not in str(content):
            return content
        return dict(to_container(OmegaConf.create({**params, group: content}))[group])
    except (UserError, OmegaConfBaseException):
        return {}  # broken: composing it says how


_loaded = cache(read_yaml)


def _groups() -> dict[str, str]:
    """Group -> its default."""
    entries = (entry for entry in _config()["defaults"] if isinstance(entry, dict))
    return {group: name for entry in entries for group, name in entry.items() if name}


def _config() -> Params:
    return _loaded((CONF / "config.yaml").resolve())
