"""`conf/` and overrides -> the parameters of a run, by Hydra."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rhs.config.quoting import check_override, readable
from rhs.config.redact import without_secrets
from rhs.config.renames import KEYS
from rhs.config.schema import BadSetting, Missing, keys, nearest, read_params
from rhs.config.settings import Params
from rhs.config.yaml_file import as_config, describe_error, read_yaml, resolved
from rhs.errors import UserError

CONF, MAIN = Path("conf"), "config"
ODD = re.compile(r"[:,\[\s][-+]?(0\d|\d+_|\d+:\d)")  # where a number may be another one
TOO_LONG = re.compile(r"\d{4000}")  # Python reads no integer of more than 4,300 digits
NO_SUCH = re.compile(r"Could not override '([^']+)'")  # Hydra's


def compose(overrides: list[str]) -> Params:
    """`conf/config.yaml` with Hydra overrides applied, every interpolation resolved, every
    parameter checked.

    A path may hold what else needs quotation marks in Hydra's grammar, see `rhs.config.quoting`.

    Raises:
        UserError: an override or a file of `conf/` that cannot be; names it and the key.
    """
    if long := [override for override in overrides if TOO_LONG.search(override)]:
        raise UserError(f"{long[0][:40]}... cannot be read: no number has thousands of digits.")
    overrides = [readable(override) for override in overrides]
    tree = to_container(resolved(_composed(overrides), str(CONF)))
    try:
        return read_params(tree)
    except Missing as missing:
        raise UserError(
            f"{CONF}: no file that was chosen sets {missing.key}: put it back into "
            f"{_file(missing.key, _choices(overrides))}, or name it on the command line, as "
            f"+{missing.key}=VALUE."
        ) from None
    except BadSetting as bad:
        if bad.key == "experiment":
            file = _file(bad.key, _choices(overrides))
            raise UserError(f"{file} must begin with the line `# @package _global_`.") from None
        raise UserError(f"{_origin(bad.key, overrides)}{bad}") from None


def _choices(overrides: list[str]) -> dict[str, str | None]:
    """The file that was chosen of each group of `conf/`."""
    params = _composed(overrides, return_hydra_config=True)
    return cast(dict, OmegaConf.to_container(params.hydra.runtime.choices))


def _composed(overrides: list[str], **more: bool) -> DictConfig:
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import MissingConfigException

    try:
        with initialize_config_dir(str(CONF.resolve()), version_base=None):
            params = hydra_compose(MAIN, overrides=overrides, **more)
        _check_files(lambda text: ODD.search(text) is not None)
        return params
    except UserError:
        raise
    except MissingConfigException as error:
        if not error.options:
            _check_files()
            raise UserError(_one_line(error)) from None
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        near = difflib.get_close_matches(name, error.options, n=1)
        hint = f"; the nearest known is {near[0]}" if near else ""
        raise UserError(
            f"{group}={name} is unknown; accepted: {', '.join(error.options)}{hint}."
        ) from None
    except RecursionError:
        _check_files()
        raise UserError(f"{CONF}: its files name each other in a circle.") from None
    except Exception as error:  # whatever Hydra says of files and words that people wrote
        _check_files()
        for override in overrides:
            check_override(override)
        raise UserError(_refusal(error)) from None


def _refusal(error: Exception) -> str:
    """The sentence for what Hydra refused."""
    if found := NO_SUCH.match(str(error)):
        path = found[1]
        if path in KEYS:
            return f"{path} is called {KEYS[path]} now: write that."
        if path in keys():
            return (
                f"{CONF}: no file that was chosen sets {path}, so that it cannot be changed: put "
                f"it, or its group, back into {CONF / MAIN}.yaml."
            )
        hint = f"; the nearest known is {known}" if (known := nearest(path)) else ""
        inner = path.startswith(("method.", "model.trunk.", "dataset.fetch."))
        add = f"; +{path}=VALUE adds it where its _target_ takes it" if inner else ""
        return f"{path} is not among the parameters{hint}{add}."
    if hasattr(error, "override"):
        why = re.sub(r"\w+Exception: | See https://\S+ for details", "", _one_line(error))
        return f"{without_secrets(str(error.override))} cannot be read as key=value: {why}."
    return _one_line(error)


def _check_files(suspect: Callable[[str], bool] = bool) -> None:
    """Raises UserError for the first file of `conf/` that is no mapping of YAML.

    Args:
        suspect: whether a file with this text is to be looked at; an empty one changes nothing.
    """
    for file in sorted(CONF.rglob("*.yaml")):
        if file.is_dir() or suspect(file.read_bytes().decode(errors="replace").strip()):
            _content(file)


def _content(file: Path) -> Any:
    """What a file of settings holds; raises UserError, with file and line, where it is none."""
    read = read_yaml(file)
    try:
        return OmegaConf.to_container(OmegaConf.create(read))
    except (OmegaConfBaseException, RecursionError) as error:
        raise UserError(f"{file}: {describe_error(error)}") from None


def _one_line(error: BaseException) -> str:
    """What Hydra says, or what it stumbled over; where it looked says nothing."""
    said = " ".join(str(error).partition("Config search path:")[0].split())
    if not said and error.__cause__ is not None:
        return _one_line(error.__cause__)
    return without_secrets(said) or repr(error)


def _file(key: str, choices: Mapping[str, str | None]) -> Path:
    """The file of `conf/` that a parameter belongs into."""
    group = key.partition(".")[0]
    return CONF / group / f"{choices[group]}.yaml" if choices.get(group) else CONF / f"{MAIN}.yaml"


def _origin(key: str, overrides: list[str]) -> str:
    """The file, of those that were chosen, that sets the key, as "conf/train/default.yaml: "."""
    choices = _choices(overrides)
    if choices.get(key):
        return f"{_file(key, choices)}: "
    given = [override.lstrip("+~").partition("=")[0] for override in overrides]
    if any(key == path or key.startswith(f"{path}.") for path in given if path not in choices):
        return ""
    chosen = [group for group, name in choices.items() if name]
    chosen.sort(key=lambda group: not group.startswith("experiment"))  # which replaces the others'
    for file in [*(_file(group, choices) for group in chosen), CONF / f"{MAIN}.yaml"]:
        try:
            read: Any = read_yaml(file)
        except (UserError, yaml.YAMLError):
            continue
        group = file.parent.name if file.parent.parent == CONF else ""
        inner = key.removeprefix(f"{group}.") if group != "experiment" else key
        if (inner != key or group in ("", "experiment", "recipe")) and _has(read, inner):
            return f"{file}: "
    return ""


def _has(read: Any, path: str) -> bool:
    for part in path.split("."):
        if not isinstance(read, dict) or part not in read:
            return False
        read = read[part]
    return True


PARAMS = Path("params.yaml")


def load_params(overrides: list[str] | None = None) -> Params:
    """The run's parameters, each checked.

    Without overrides this is `params.yaml`, which DVC composes from `conf/`. With Hydra overrides
    (`method=npair train.epochs=2`) they are composed afresh, so a stage also runs without DVC.

    Raises:
        UserError: params.yaml is missing or cannot be read, or a parameter is absent, unknown or
            none that can be (see `rhs.config.schema`); names file and key.
    """
    if overrides:
        return compose(overrides)
    if not PARAMS.exists():
        raise UserError(f"{PARAMS} not found in {Path.cwd()}: run this from the project's root.")
    try:
        return read_params(to_container(as_config(PARAMS)))
    except Missing as missing:
        raise UserError(
            f"{PARAMS}: {missing.key} is missing: put it back, or have the file made anew, by "
            "`git checkout params.yaml` or `dvc exp run -S` with what you choose."
        ) from None
    except BadSetting as bad:
        raise UserError(f"{PARAMS}: {bad}") from None


def to_container(params: DictConfig) -> dict:
    """Parameters, or a group of them, as nested dicts and lists."""
    return cast(dict, OmegaConf.to_container(params, resolve=True))


def read_file(what: str, folder: Path, name: str) -> dict[str, Any]:
    """The settings in `<folder>/<name>.yaml`.

    Args:
        what: is chosen by that name, for messages.

    Raises:
        UserError: there is no such file, or it holds no settings; names file and line.
    """
    file = folder / f"{name}.yaml"
    if "/" in name or not file.exists():
        known = sorted(path.stem for path in folder.glob("*.yaml"))
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; the nearest known is {near[0]}" if near else ""
        raise UserError(f"{what}={name} is unknown; accepted: {', '.join(known)}{hint}.")
    return cast(dict[str, Any], _content(file))


def flatten(tree: dict, prefix: str = "") -> dict[str, object]:
    """Nested parameters as one level of dotted names; lists and leaves stay as they are."""
    flat: dict[str, object] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
