"""YAML files that people write: what cannot be read ends in a sentence with file and line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf._utils import get_yaml_loader
from omegaconf.errors import OmegaConfBaseException

from rhs.errors import UserError, format_value

# What merging leaves of git's in a file.
CONFLICT = re.compile(r"^(<{7}|={7}|>{7}|\|{7})( |$)")
# Read as numbers that are not what is written: 010 is 8, 1_000 is 1000, 1:30 is 90.
ODD_NUMBER = re.compile(r"[-+]?(0[0-9_]+|[0-9][0-9_]*_[0-9_]*|[0-9][0-9_]*(:[0-5]?[0-9])+)(\.\d*)?")
NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
LARGE = 2**22  # bytes: no file of settings, and it would take minutes


def read_yaml(file: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds, as OmegaConf reads it.

    Raises:
        UserError: it cannot be read, is no YAML, or holds something else; names file and line.
    """
    written = read_text(file)
    for line, content in enumerate(written.splitlines(), 1):
        if CONFLICT.match(content):
            raise UserError(
                f"{file}, line {line}: {content[:20]!r} is left of a merge in git: keep one of the "
                "two versions, and take the marks away."
            )
    try:
        read = _parsed(file, written)
    except yaml.YAMLError as error:
        raise UserError(f"{file}{_where(error)}") from None
    except UserError:
        raise
    except (ValueError, TypeError) as error:  # an integer of thousands of digits, !!int of a text
        raise UserError(f"{file} holds a value that cannot be read: {error}.") from None
    except RecursionError:
        raise UserError(f"{file} is nested too deeply to be settings.") from None
    if read is None:
        raise UserError(f"{file} is empty; it must hold settings, as name: value.")
    if not isinstance(read, dict):
        raise UserError(
            f"{file} holds {format_value(read)}; it must be a mapping of names to "
            "values (name: value)."
        )
    return read


def read_text(file: Path) -> str:
    """A text file that a person wrote, without the mark that some editors begin it with.

    Raises:
        UserError: it is missing, a folder, unreadable, too large, or not UTF-8.
    """
    try:
        if file.is_dir():
            raise UserError(f"{file} is a folder; it must be a text file.")
        if file.exists() and not file.is_file():  # a pipe would be waited for
            raise UserError(f"{file} is no regular file; it must be a text file.")
        if file.stat().st_size > LARGE:
            raise UserError(f"{file} has {file.stat().st_size:,} bytes; it must be a text file.")
        return file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{file} is not UTF-8 text (byte {error.start + 1:,} is 0x{error.object[error.start]:x}"
            "): save it as UTF-8."
        ) from None
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}.") from None


def as_config(file: Path) -> DictConfig:
    """A YAML file with its interpolations resolved.

    Raises:
        UserError: see `read_yaml`; or an interpolation or a value that cannot be; names the key.
    """
    return resolved(read_yaml(file), str(file))


def resolved(read: dict | DictConfig, where: str) -> DictConfig:
    """Settings with every `${...}` resolved.

    Args:
        where: they come from, for messages.
    """
    try:
        config = cast(DictConfig, OmegaConf.create(read))
    except (OmegaConfBaseException, RecursionError) as error:
        raise UserError(f"{where}: {describe_error(error)}") from None
    try:
        OmegaConf.resolve(config)
        if missing := sorted(OmegaConf.missing_keys(config)):
            raise UserError(f"{where}: {missing[0]} is ???; give it a value.")
    except (OmegaConfBaseException, RecursionError) as error:
        raise UserError(f"{where}: {_unresolved(config)}{describe_error(error)}") from None
    return config


def _unresolved(config: DictConfig, above: str = "") -> str:
    """The first value whose `${...}` leads nowhere, as "train.epochs is '${x}': "."""
    for key in config:
        full = above + str(key)
        try:
            value = config[key]
        except (OmegaConfBaseException, RecursionError):
            raw = OmegaConf.to_container(config, resolve=False)
            return f"{full} is {format_value(cast(dict, raw)[key])}: "
        if isinstance(value, DictConfig) and (found := _unresolved(value, f"{full}.")):
            return found
    return ""


def describe_error(error: OmegaConfBaseException | RecursionError) -> str:
    """What OmegaConf says, on one line."""
    if isinstance(error, RecursionError):
        return "it goes round in a circle."
    return str(error).strip().splitlines()[0].rstrip(".") + "."


def _parsed(file: Path, written: str) -> Any:
    loader = get_yaml_loader()(written)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _refuse_odd(file, node)
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _refuse_odd(file: Path, root: yaml.Node) -> None:
    """Raises UserError for a number that is not what is written."""
    nodes, seen = [root], set()
    while nodes:
        node = nodes.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.ScalarNode):
            plain = node.style is None and node.tag in NUMBERS
            if plain and ODD_NUMBER.fullmatch(node.value):
                raise UserError(
                    f"{file}, line {node.start_mark.line + 1}: {node.value} means another number "
                    f"in YAML; write a text as '{node.value}', a number by its digits alone."
                )
        elif isinstance(node, yaml.MappingNode):
            nodes += [each for pair in node.value for each in pair]
        else:
            nodes += node.value


def _where(error: yaml.YAMLError) -> str:
    """What YAML says, on one line, behind the number of the line."""
    said = str(getattr(error, "problem", None) or " ".join(str(error).split())).rstrip(".")
    begun = getattr(error, "context_mark", None)  # what is never closed is found at the end
    mark = begun if "end of stream" in said else getattr(error, "problem_mark", None) or begun
    if "'\\t'" in said:
        said += "; indent with spaces, not with tabs"
    return f", line {mark.line + 1}: {said}." if mark else f": {said}."
