"""`conf/` and overrides -> the parameters of a run, by Hydra."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rhs.config.quoting import check_override, readable
from rhs.config.redact import without_secrets
from rhs.config.renamed import KEYS
from rhs.config.schema import BadSetting, Missing, check_params, nearest
from rhs.config.yaml_file import as_config, describe_error, read_yaml, resolved
from rhs.errors import UserError

CONF, MAIN = Path("conf"), "config"
NO_SUCH = re.compile(r"Could not override '([^']+)'")  # Hydra's


def compose(overrides: list[str]) -> DictConfig:
    """`conf/config.yaml` with Hydra overrides applied, every interpolation resolved, every
    parameter looked at.

    A path may hold what else needs quotation marks in Hydra's grammar, see `rhs.config.quoting`.

    Raises:
        UserError: an override or a file of `conf/` that cannot be; names it and the key.
    """
    overrides = [readable(override) for override in overrides]
    params = resolved(_composed(overrides), str(CONF))
    try:
        check_params(cast(dict, OmegaConf.to_container(params)))
    except Missing as missing:
        raise UserError(
            f"{CONF}: no file that was chosen sets {missing.key}: put it back into "
            f"{_file(missing.key, _choices(overrides))}, or name it on the command line, as "
            f"+{missing.key}=VALUE."
        ) from None
    except BadSetting as bad:
        raise UserError(f"{_origin(bad.key, overrides)}{bad}") from None
    return params


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
            return hydra_compose(MAIN, overrides=overrides, **more)
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
        if found := NO_SUCH.match(str(error)):
            if found[1] in KEYS:
                raise UserError(f"{found[1]} is called {KEYS[found[1]]} now: write that.") from None
            known = nearest(found[1])
            hint = f"; the nearest known is {known}" if known else ""
            inner = found[1].startswith(("method.", "model.trunk.", "dataset.fetch."))
            add = f"; +{found[1]}=VALUE adds it where its _target_ takes it" if inner else ""
            raise UserError(f"{found[1]} is not among the parameters{hint}{add}.") from None
        which = f"{error.override}: " if hasattr(error, "override") else ""
        raise UserError(which + _one_line(error)) from None


def _check_files() -> None:
    """Raises UserError for the first file of `conf/` that is no mapping of YAML."""
    for file in sorted(CONF.rglob("*.yaml")):
        if file.is_dir() or file.read_bytes().strip():  # an empty file changes nothing
            read_yaml(file)


def _one_line(error: Exception) -> str:
    return without_secrets(" ".join(str(error).split())) or repr(error)


def _file(key: str, choices: Mapping[str, str | None]) -> Path:
    """The file of `conf/` that a parameter belongs into."""
    group = key.partition(".")[0]
    return CONF / group / f"{choices[group]}.yaml" if choices.get(group) else CONF / f"{MAIN}.yaml"


def _origin(key: str, overrides: list[str]) -> str:
    """The file, of those that were chosen, that sets the key, as "conf/train/default.yaml: "."""
    choices = _choices(overrides)
    given = [override.lstrip("+~").partition("=")[0] for override in overrides]
    if any(key == path or key.startswith(f"{path}.") for path in given if path not in choices):
        return ""
    files = [_file(group, choices) for group, name in choices.items() if name]
    for file in [*reversed(files), CONF / f"{MAIN}.yaml"]:
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


def load_params(overrides: list[str] | None = None) -> DictConfig:
    """The run's parameters, each looked at.

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
    params = as_config(PARAMS)
    try:
        check_params(to_container(params))
    except Missing as missing:
        raise UserError(
            f"{PARAMS}: {missing.key} is missing: put it back, or have the file made anew, by "
            "`git checkout params.yaml` or `dvc exp run -S` with what you choose."
        ) from None
    except BadSetting as bad:
        raise UserError(f"{PARAMS}: {bad}") from None
    return params


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
    read = read_yaml(file)
    try:
        return cast(dict[str, Any], OmegaConf.to_container(OmegaConf.create(read)))
    except (OmegaConfBaseException, RecursionError) as error:
        raise UserError(f"{file}: {describe_error(error)}") from None


def flatten(tree: dict, prefix: str = "") -> dict[str, object]:
    """Nested parameters as one level of dotted names; lists and leaves stay as they are."""
    flat: dict[str, object] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
