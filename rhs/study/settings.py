"""What a study compares: `conf/study/*.yaml`, checked."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rhs.config.compose import read_file
from rhs.config.value_checks import unknown
from rhs.datasets.input_guard import refuse_input
from rhs.errors import UserError, check_number
from rhs.study.cells import UNTRAINED
from rhs.tuning.settings import OBJECTIVES, TuneSettings, load_settings

FOLDER = Path("conf/study")
ENOUGH = 5  # seeds, for a claim
NAMES = (
    "name",
    "base",
    "data",
    "methods",
    "classes_of_four",
    "seeds",
    "baselines",
    "tune",
    "datasets",
)
TUNE = ("trials", "seed", "objective", "scheduler", "concurrent", "space")
LABEL = r"\w[\w.-]*"  # names files and MLflow's metrics


@dataclass(frozen=True)
class Method:
    """One of the methods that are compared.

    Attributes:
        overrides: Hydra's, what makes it this method.
        space: what is tuned, in the form of `conf/tune/*.yaml`, the shared space included.
    """

    overrides: list[str]
    space: dict = field(default_factory=dict)


@dataclass(frozen=True)
class StudySettings:
    """A study: methods x data sets x seeds.

    Attributes:
        base: Hydra overrides that everything shares.
        data: overrides by the data set's label.
        methods: by label.
        baselines: labels of the methods that all others are compared with.
        tune: `trials` (0: every method runs as its overrides say), the search's `seed`, and more;
            of every method and data set the same.
    """

    name: str
    base: list[str]
    data: dict[str, list[str]]
    methods: dict[str, Method]
    seeds: list[int]
    baselines: list[str]
    tune: dict[str, Any]

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not re.fullmatch(LABEL, self.name):
            raise UserError(f"study.name is {self.name!r}; it is of letters, digits, _, . and -.")
        for kind, labels in (("data", self.data), ("methods", self.methods)):
            for label in labels:
                if not re.fullmatch(LABEL, label) or label == UNTRAINED:
                    raise UserError(
                        f"study.{kind} has {label!r}; a label is of letters, digits, _, . and -."
                    )
        for label in self.baselines:
            if not isinstance(label, str) or label not in self.methods:
                raise UserError(
                    f"study.baselines has {label!r}; accepted: {', '.join(self.methods)}."
                )
        for seed in self.seeds:
            check_number("study.seeds", seed, least=0, whole=True)
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise UserError(f"study.seeds is {self.seeds!r}; give different seeds, as [0,1,2,3,4].")
        if strange := [key for key in self.tune if key not in TUNE]:
            raise UserError(unknown("study.tune", strange[0], TUNE))
        check_number("study.tune.trials", self.trials, least=0, whole=True)
        objective = self.tune.get("objective", "recall@1")
        if not isinstance(objective, str) or objective not in OBJECTIVES:
            raise UserError(
                f"study.tune.objective is {objective!r}; it must be {' or '.join(OBJECTIVES)}."
            )
        if self.trials and self.tune_seed in self.seeds:
            raise UserError(
                f"study.tune.seed is {self.tune_seed}, which study.seeds has too: settings are "
                "chosen with a seed of their own."
            )
        for label in self.methods if self.trials else ():
            self.search_of(label)

    @property
    def trials(self) -> int:
        return self.tune.get("trials", 0)

    @property
    def tune_seed(self) -> int:
        return self.tune.get("seed", 1000)

    @property
    def select(self) -> str:
        """What `train.select` calls the chosen epoch."""
        return "best_map@r" if self.tune.get("objective") == "map@r" else "best"

    def overrides(self, data: str, method: str, *more: str) -> list[str]:
        """Of a method on a data set, each path once: as with Hydra, what comes later holds."""
        given = (*self.base, *self.data[data], *self.methods[method].overrides, *more)
        last: dict[str, str] = {}
        for override in given:
            path = override.partition("=")[0]
            last.pop(path, None)
            last[path] = override
        return list(last.values())

    def search_of(self, method: str) -> TuneSettings:
        """The search of a method's setting."""
        more = {k: v for k, v in self.tune.items() if k != "space"} | {"seed": self.tune_seed}
        return load_settings({"name": self.name, "space": self.methods[method].space} | more)


def load_study(
    given: str | dict, changes: list[str] | None = None, more: list[str] | None = None
) -> StudySettings:
    """The study of `conf/study/<name>.yaml`, or of a dict of the same form.

    Args:
        changes: `study.seeds=[0,1]` and such, each in place of what the file says; a list of labels
            as `study.data` or `study.methods` takes these of the file's alone.
        more: overrides behind those of `base`.

    Raises:
        UserError: there is no such file, or it says what cannot be.
    """
    tree = OmegaConf.create({"study": dict(given) if isinstance(given, dict) else _read(given)})
    # Parts of the file's first: what is said of baselines is said of these.
    parts = ("study.data=", "study.methods=")
    for change in sorted(changes or [], key=lambda each: not each.startswith(parts)):
        _apply(tree, change)
    if strange := [key for key in tree.study if key not in NAMES]:
        raise UserError(unknown("study", strange[0], NAMES))
    datasets = OmegaConf.select(tree, "study.datasets")
    if datasets is None and "{study.datasets}" in OmegaConf.to_yaml(tree):
        raise UserError(
            "study.datasets is missing: give the folder that has the data sets' archives, as "
            "study.datasets=FOLDER or in the environment variable RHS_DATASETS."
        )
    if isinstance(datasets, str):
        refuse_input("study.datasets", datasets, whole=False)
    try:
        read = cast(dict[str, Any], OmegaConf.to_container(tree, resolve=True))["study"]
    except OmegaConfBaseException as error:
        raise UserError(f"The study cannot be read: {' '.join(str(error).split())}.") from None
    read["base"] = [*_overrides("base", read.get("base") or []), *(more or [])]
    settings = _checked(read)
    _refuse_lost(settings, more or [])
    return settings


def _refuse_lost(settings: StudySettings, more: list[str]) -> None:
    """Raises UserError for an override that a data set, a method or the seeds replace."""
    by = {"seed": "study.seeds"}
    for label, overrides in settings.data.items():
        by |= {each.partition("=")[0]: f"study.data.{label}" for each in overrides}
    for label, method in settings.methods.items():
        by |= {each.partition("=")[0]: f"study.methods.{label}" for each in method.overrides}
    for override in more:
        path = override.partition("=")[0]
        if path in by:
            raise UserError(f"{override} would be lost: {by[path]} sets {path}.")


def _checked(read: dict[str, Any]) -> StudySettings:
    tune = _mapping("tune", read.get("tune") or {})
    shared = _mapping("tune.space", tune.get("space") or {})
    methods = {}
    for label, entry in _mapping("methods", read.get("methods")).items():
        if not isinstance(entry, dict) or set(entry) - {"overrides", "space"}:
            raise UserError(f"study.methods.{label} is {entry!r}; accepted: overrides, space.")
        space = {**shared, **_mapping(f"methods.{label}.space", entry.get("space") or {})}
        space = {path: what for path, what in space.items() if what is not None}
        overrides = _overrides(f"methods.{label}.overrides", entry.get("overrides"))
        methods[str(label)] = Method(overrides, space)
    data = _mapping("data", read.get("data"))
    seeds, baselines = read.get("seeds", [*range(ENOUGH)]), read.get("baselines") or []
    for name, value in (("seeds", seeds), ("baselines", baselines)):
        if not isinstance(value, list):
            raise UserError(f"study.{name} is {value!r}; it must be a list.")
    return StudySettings(
        read.get("name", "study"),
        _overrides("base", read.get("base") or []),
        {str(label): _overrides(f"data.{label}", given) for label, given in data.items()},
        methods,
        seeds,
        baselines,
        tune,
    )


def _mapping(name: str, value: object) -> dict:
    if not isinstance(value, dict) or (name in ("data", "methods") and not value):
        raise UserError(f"study.{name} is {value!r}; it must be a mapping with an entry for each.")
    return value


def _overrides(name: str, value: object) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise UserError(f"study.{name} is {value!r}; it must be a list of path=value.")
    if wrong := [each for each in value if "=" not in each]:
        raise UserError(f"study.{name} has {wrong[0]!r}; it must be a list of path=value.")
    # Quotes around a plain path say nothing, and commands are to be read.
    return [re.sub(r"='([\w.-]*/[\w./-]*)'$", r"=\1", each) for each in value]


def _read(name: str) -> dict:
    read = {"name": name} | read_file("study", FOLDER, name)
    if isinstance(read.get("methods"), str):
        read["methods"] = read_file("study.methods", FOLDER / "methods", read["methods"])
    return read


def _apply(tree: DictConfig, change: str) -> None:
    """One `study.path=value`; lists of labels take a part of the data or the methods."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    if ".space." in change.partition("=")[0]:
        raise UserError(f"{change}: a study's search space is changed in its file in {FOLDER}.")
    try:
        override = OverridesParser.create().parse_override(change)
        path, value = override.key_or_group, override.value()
        name = path.removeprefix("study.")
        if name not in ("data", "methods") or not isinstance(value, list):
            OmegaConf.update(tree, path, value)
            return
        there = OmegaConf.select(tree, path)
        if not isinstance(there, DictConfig):
            raise UserError(f"study.{name} is {there!r}; it must be a mapping.")
        if missing := [label for label in value if label not in there]:
            known = ", ".join(map(str, there))
            raise UserError(f"study.{name} has {missing[0]!r}; accepted: {known}.")
        for label in [label for label in there if label not in value]:
            del there[label]
        if name == "methods":
            left = [label for label in tree.study.get("baselines") or [] if label in value]
            tree.study.baselines = left
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(f"{change} cannot be read: {' '.join(str(error).split())}.") from None
