"""What every pipeline stage shares: reading its parameters and saying a user's mistake plainly."""

import errno
import sys
from collections.abc import Callable
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from rhs.errors import UserError

PARAMS = Path("params.yaml")


def load_params(overrides: list[str] | None = None) -> DictConfig:
    """The run's parameters.

    Without overrides this is `params.yaml`, which DVC composes from `conf/`. With Hydra overrides
    (`method=npair train.epochs=2`) they are composed afresh, so a stage also runs without DVC.

    Raises:
        UserError: params.yaml is missing, or an override names something that does not exist.
    """
    if overrides:
        return compose(overrides)
    if not PARAMS.exists():
        raise UserError(f"{PARAMS} not found in {Path.cwd()}: run this from the project's root.")
    params = OmegaConf.load(PARAMS)
    assert isinstance(params, DictConfig)
    return params


def compose(overrides: list[str]) -> DictConfig:
    """`conf/config.yaml` with Hydra overrides applied and every interpolation resolved."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException

    try:
        with initialize_config_dir(str(Path("conf").resolve()), version_base=None):
            params = hydra_compose("config", overrides=overrides)
    except HydraException as error:
        raise UserError(" ".join(str(error).split())) from None
    OmegaConf.resolve(params)
    return params


def stage(main: Callable[[DictConfig], None]) -> None:
    """Run a stage's `main`; a user's mistake or a full disk ends in one sentence and status 1."""
    try:
        main(load_params(sys.argv[1:]))
    except Exception as error:  # anything that is not the user's to mend keeps its traceback
        sentence = explain(error)
        if sentence is None:
            raise
        print(f"error: {sentence}", file=sys.stderr)
        sys.exit(1)


def explain(error: BaseException) -> str | None:
    """The sentence for a user if `error`, or what caused it on a worker, is theirs to mend."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, UserError):
            return str(seen)
        if isinstance(seen, OSError) and seen.errno == errno.ENOSPC:
            where = seen.filename or Path.cwd()
            return f"No space left on the disk that holds {where}: free some and run again."
        seen = getattr(seen, "cause", None) or seen.__cause__
    return None
