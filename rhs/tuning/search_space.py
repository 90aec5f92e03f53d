"""A search space: which parameters are varied, between what, and on which condition."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, is_dataclass
from itertools import product
from pathlib import Path
from typing import Any

from rhs.config.compose import compose
from rhs.config.overrides import as_text, assigned, overrides_of
from rhs.config.settings import Params
from rhs.errors import UserError, check_number
from rhs.storage.outputs import select

DIGITS = 4  # of a number from a range: more say nothing
KEYS = ("low", "high", "log", "step", "int", "choice", "when")


@dataclass(frozen=True)
class Dimension:
    """One parameter of a search space.

    Attributes:
        path: `train.lr`, or a group of `conf/` such as `method`.
        low, high: of a range, both included; None with choices.
        log: sampled evenly in the logarithm.
        step: between values, from `low` on.
        whole: only whole numbers.
        choices: to take one of.
        when: paths and what they must be (one of) for this parameter to be varied at all.
    """

    path: str
    low: float | None = None
    high: float | None = None
    log: bool = False
    step: float | None = None
    whole: bool = False
    choices: tuple = ()
    when: Mapping[str, tuple] = field(default_factory=dict)

    def is_active(self, values: Mapping[str, Any], base: Params, varied: set[str]) -> bool:
        """Whether its condition holds; one on a parameter that is not varied now does not.

        Args:
            values: of the dimensions before this one, as far as they are active.
            base: the parameters that all trials share.
            varied: the paths of all dimensions.
        """
        return all(
            (path in values or path not in varied) and value_of(path, values, base) in wanted
            for path, wanted in self.when.items()
        )

    def suggest(self, trial: Any) -> Any:
        """The value that an Optuna trial takes."""
        if self.choices:
            labels = [label(choice) for choice in self.choices]
            return self.choices[labels.index(trial.suggest_categorical(self.path, labels))]
        if self.whole:
            return trial.suggest_int(
                self.path, self.low, self.high, step=self.step or 1, log=self.log
            )
        value = trial.suggest_float(self.path, self.low, self.high, step=self.step, log=self.log)
        assert self.low is not None
        assert self.high is not None
        digits = DIGITS if self.step is None else 12  # a step is said by the user: nothing is lost
        return min(max(float(f"{value:.{digits}g}"), self.low), self.high)

    def holds(self, value: Any) -> bool:
        """Whether a trial could take this value."""
        if self.choices:
            return value in self.choices
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            return False
        assert self.low is not None
        assert self.high is not None
        if not self.low <= value <= self.high:
            return False
        step = self.step or (1 if self.whole else None)
        if step is None:
            return True
        steps = (value - self.low) / step  # as Optuna counts them, from the lower end
        return abs(steps - round(steps)) < 1e-9

    @property
    def ends(self) -> tuple:
        """What is checked of a range, so that methods which share one need it only once."""
        return self.path, self.low, self.high

    @property
    def example(self) -> Any:
        return self.choices[0] if self.choices else self.low


def label(value: Any) -> Any:
    """A choice as Optuna knows it: itself, or the text of a list or a mapping."""
    simple = value is None or isinstance(value, (bool, int, float, str))
    return value if simple else as_text(value)


def value_of(path: str, values: Mapping[str, Any], base: Params) -> Any:
    """A parameter, or the name of a group's choice, where `values` are taken and `base` else."""
    if path in values:
        return values[path]
    found = select(base, path)
    if is_group(path):
        return select(found, "name")
    return asdict(found) if is_dataclass(found) and not isinstance(found, type) else found


def is_group(path: str) -> bool:
    """Whether a path names a group of `conf/`, whose files are its values."""
    return "." not in path and Path("conf", path).is_dir()


def suggest_values(space: list[Dimension], trial: Any, base: Params) -> dict[str, Any]:
    """The values that an Optuna trial takes, one after the other, conditions heeded."""
    values: dict[str, Any] = {}
    varied = {dimension.path for dimension in space}
    for dimension in space:
        if dimension.is_active(values, base, varied):
            values[dimension.path] = dimension.suggest(trial)
    return values


def defaults(space: list[Dimension], base: Params) -> dict[str, Any]:
    """What the shared parameters say already, as Optuna knows it, of all that the space holds."""
    found = [(dimension, value_of(dimension.path, {}, base)) for dimension in space]
    return {dimension.path: label(value) for dimension, value in found if dimension.holds(value)}


def read_space(settings: object, name: str = "tune.space") -> list[Dimension]:
    """The dimensions of a search space, in their order.

    Args:
        settings: by path `{low, high, log, step, int}` or `{choice: [...]}`, each with or without
            `when: {path: value or list of values}`.

    Raises:
        UserError: settings of another form, or a range that is none.
    """
    if not isinstance(settings, dict) or not settings:
        raise UserError(f"{name} is {settings!r}; give at least one parameter by its path.")
    return [_dimension(f"{name}.{path}", path, entry) for path, entry in settings.items()]


def _dimension(name: str, path: str, entry: object) -> Dimension:
    if not isinstance(entry, dict) or set(entry) - set(KEYS):
        raise UserError(f"{name} is {entry!r}; accepted are {', '.join(KEYS)}.")
    when = entry.get("when") or {}
    if not isinstance(when, dict):
        raise UserError(f"{name}.when is {when!r}; give a path and its value.")
    conditions = {k: tuple(v) if isinstance(v, list) else (v,) for k, v in when.items()}
    if "choice" in entry:
        choices = entry["choice"]
        if not isinstance(choices, list) or not choices or set(entry) - {"choice", "when"}:
            raise UserError(f"{name} is {entry!r}; choice takes a list, and only when beside it.")
        return Dimension(path, choices=tuple(choices), when=conditions)
    if "low" not in entry and "high" not in entry:
        raise UserError(f"{name} is {entry!r}; it needs low and high, or choice.")
    log, whole, step = entry.get("log", False), entry.get("int", False), entry.get("step")
    for key in ("log", "int"):
        if not isinstance(entry.get(key, False), bool):
            raise UserError(f"{name}.{key} is {entry[key]!r}; it must be true or false.")
    low, high = entry.get("low"), entry.get("high")
    check_number(f"{name}.low", low, whole=whole, **({"above": 0} if log else {}))
    check_number(f"{name}.high", high, whole=whole)
    assert low is not None
    assert high is not None
    if low >= high:
        raise UserError(f"{name} goes from low {low} to high {high}; low must be below high.")
    if step is not None:
        check_number(f"{name}.step", step, above=0, whole=whole)
        if log:
            raise UserError(f"{name} has both log and step; it takes one of them.")
    return Dimension(path, low, high, log, step, whole, when=conditions)


VARIED = ("model", "method", "train", "dataset.augment", "dataset.coarse")  # trials depend on
UNVARIED = ("train.select",)  # but for these: the best epoch counts in any case


def check_paths(space: list[Dimension], base: list[str]) -> None:
    """Raises UserError unless each parameter exists where its condition holds.

    Args:
        base: overrides that all trials share.
    """
    compose(base)
    by_path = {dimension.path: dimension for dimension in space}
    for dimension in space:
        path = dimension.path
        if not path.startswith(VARIED) or path in UNVARIED:
            raise UserError(f"tune.space.{path}: no trial depends on it; vary {', '.join(VARIED)}.")
        _refuse_outside(dimension, base)
        wanted = dict(_conditions(dimension, by_path))
        group = path.split(".")[0]
        if group in by_path and group != path:
            wanted.setdefault(group, by_path[group].choices)
        wanted[path] = dimension.choices if is_group(path) else (dimension.example,)
        for values in product(*wanted.values()):
            taken = dict(zip(wanted, values, strict=True))
            try:
                compose([*base, *overrides_of(taken)])
            except UserError as error:
                raise UserError(f"tune.space.{path} holds {taken[path]!r}: {error}") from None


def _refuse_outside(dimension: Dimension, base: list[str]) -> None:
    """Raises UserError for an override that no trial would have, as the space replaces it."""
    for override in base if not dimension.when else ():
        path, value = assigned(override)
        if path == dimension.path and not dimension.holds(value):
            raise UserError(
                f"{override} would be lost: the search varies {path}, and not over that value; "
                f"change tune.space.{path}, or take it away with null."
            )


def _conditions(dimension: Dimension, by_path: dict[str, Dimension]) -> list[tuple[str, tuple]]:
    """What must be so for a dimension to be active, its conditions' own conditions first."""
    found: list[tuple[str, tuple]] = []
    before = list(by_path)[: list(by_path).index(dimension.path)]
    for path, wanted in dimension.when.items():
        if path in by_path:
            if path not in before:
                raise UserError(
                    f"tune.space.{dimension.path} depends on {path}, which must come before it."
                )
            if not any(by_path[path].holds(value) for value in wanted):
                raise UserError(
                    f"tune.space.{dimension.path}.when wants {path} to be "
                    f"{' or '.join(map(repr, wanted))}, which the space does not hold."
                )
            found += _conditions(by_path[path], by_path)
        elif is_group(path) and path != "method":
            raise UserError(
                f"tune.space.{dimension.path}.when names {path}, which is not varied: leave the "
                f"condition out, or vary {path} too."
            )
        found.append((path, wanted))
    return found
