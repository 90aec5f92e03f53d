"""What a search is to do: `conf/tune/*.yaml`, checked."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rhs.config.compose import read_file
from rhs.config.overrides import assigned
from rhs.config.value_checks import unknown
from rhs.errors import UserError, check_number
from rhs.training.checkpointer import BEST
from rhs.tuning.search_space import Dimension, read_space

FOLDER = Path("conf/tune")
OBJECTIVES = {"recall@1": "val_recall@1", "map@r": "val_map@r"}  # and their columns
NAMES = ("name", "objective", "trials", "concurrent", "workers", "seed", "scheduler", "space")
SCHEDULER = ("grace", "reduction")
RANDOM = 10  # trials, at most


@dataclass(frozen=True)
class TuneSettings:
    """A search.

    Attributes:
        objective: of OBJECTIVES, on the held-out training classes.
        trials: how many settings are tried, those that fail too.
        concurrent: how many at once; None: as many as the cluster has room for.
        workers: of data-parallel training, of each trial; several only without a scheduler.
        scheduler: of ASHA the epochs before a trial may be stopped (grace) and the share, one of
            so many, that goes on at each rung (reduction); None: all trials are trained to the end.
        space: what is varied, as the file has it.
    """

    name: str
    space: dict
    objective: str = "recall@1"
    trials: int = 30
    concurrent: int | None = None
    workers: int = 1
    seed: int = 0
    scheduler: dict | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.replace("-", "_").isidentifier():
            raise UserError(
                f"tune.name is {self.name!r}; it names files: letters, digits, - and _ are taken."
            )
        if not isinstance(self.objective, str) or self.objective not in OBJECTIVES:
            raise UserError(
                f"tune.objective is {self.objective!r}; it must be {' or '.join(OBJECTIVES)}."
            )
        check_number("tune.trials", self.trials, least=1, whole=True)
        if self.concurrent is not None:
            check_number("tune.concurrent", self.concurrent, least=1, whole=True)
        check_number("tune.workers", self.workers, least=1, whole=True)
        check_number("tune.seed", self.seed, least=0, most=2**31, whole=True)
        if self.scheduler is not None:
            if not isinstance(self.scheduler, dict) or set(self.scheduler) != set(SCHEDULER):
                raise UserError(
                    f"tune.scheduler is {self.scheduler!r}; it must be null, or have "
                    f"{' and '.join(SCHEDULER)}."
                )
            if self.workers > 1:
                raise UserError(
                    f"tune.workers is {self.workers} and tune.scheduler is set; only trials of one "
                    "worker can be stopped early: set one of them to 1 or null."
                )
            check_number("tune.scheduler.grace", self.scheduler["grace"], least=1, whole=True)
            check_number("tune.scheduler.reduction", self.scheduler["reduction"], above=1)
        read_space(self.space)

    @property
    def column(self) -> str:
        """Of an epoch's numbers, the one that the objective is."""
        return OBJECTIVES[self.objective]

    @property
    def select(self) -> str:
        """What `train.select` calls the epoch that the objective is best at."""
        return next(name for name, column in BEST.items() if column == self.column)

    @property
    def random(self) -> int:
        """How many trials are suggested at random, before those that learn from the others."""
        return min(RANDOM, -(-self.trials // 3))

    @property
    def dimensions(self) -> list[Dimension]:
        return read_space(self.space)


def load_settings(given: str | dict, changes: list[str] | None = None) -> TuneSettings:
    """The search of `conf/tune/<name>.yaml`, or of a dict of the same form.

    Args:
        changes: `tune.trials=5` and such, each in place of what the file says.

    Raises:
        UserError: there is no such file, or it says what cannot be.
    """
    settings = dict(given) if isinstance(given, dict) else _named(given)
    tree = OmegaConf.create({"tune": settings})
    for change in changes or []:
        _apply(tree, change)
    settings = cast(dict[str, Any], OmegaConf.to_container(tree))["tune"]
    if strange := [key for key in settings if key not in NAMES]:
        raise UserError(unknown("tune", strange[0], NAMES))
    for needed in ("name", "space"):
        if needed not in settings:
            raise UserError(f"tune.{needed} is missing; accepted: {', '.join(NAMES)}.")
    return TuneSettings(**settings)


def _named(name: str) -> dict[str, Any]:
    return {"name": name} | read_file("tune", FOLDER, name)


def _apply(tree: DictConfig, change: str) -> None:
    """One `tune.path=value`; a range or a choice in the space is replaced as a whole."""
    path, value = assigned(change)
    inner = path.removeprefix("tune.space.")
    try:
        if inner != path and isinstance(value, dict):
            tree.tune.space[inner] = value  # a path of its own, with its dots
        elif inner != path and value is None:
            if inner not in tree.tune.space:
                known = ", ".join(map(str, tree.tune.space))
                raise UserError(f"{change} takes nothing away: the space has {known}.")
            tree.tune.space.pop(inner)
        else:
            OmegaConf.update(tree, path, value)
    except OmegaConfBaseException as error:
        raise UserError(f"{change} cannot be set: {' '.join(str(error).split())}.") from None
