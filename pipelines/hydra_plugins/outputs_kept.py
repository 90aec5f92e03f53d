"""`dvc exp run` refuses in one sentence what a run cannot be, while nothing is touched yet.

Parameters that no stage would take, and files where it puts outputs in order: it deletes there
what dvc.lock does not know, before any stage runs. DVC loads this module
(`hydra.plugins_path` in .dvc/config) right before it composes.
"""

import os
import sys
from pathlib import Path

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin

ROOT = Path(__file__).parents[2]
ASKED = "RHS_OUTPUTS_KEPT"  # set while this composes


class OutputsKept(SearchPathPlugin):
    """Changes no search path: this is the one moment when Hydra calls what is not its own."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        if ASKED in os.environ:
            return
        here = os.getcwd()
        sys.path.insert(0, str(ROOT))  # DVC's process need not have it
        os.environ[ASKED] = "1"
        os.chdir(ROOT)
        try:
            _check(given(sys.argv))
        finally:
            os.chdir(here)
            del os.environ[ASKED]
            sys.path.remove(str(ROOT))


def _check(overrides: list[str]) -> None:
    from rhs.config.compose import compose
    from rhs.config.quoting import is_sweep
    from rhs.datasets.input_guard import refuse_inputs
    from rhs.errors import UserError
    from rhs.storage.outputs import refuse_outputs

    if any(map(is_sweep, overrides)):  # DVC makes an experiment of each, whose stages look
        return
    try:
        params = compose(overrides)
        refuse_inputs(params)
        refuse_outputs(params, Path())
    except UserError as error:
        sys.exit(f"error: {error}")


def given(arguments: list[str]) -> list[str]:
    """The overrides of `dvc exp run -S a=1 --set-param b=2 --set-param=c=3 -Sd=4`.

    Those of files other than params.yaml are left out.
    """
    found = []
    for flag, value in zip(arguments, [*arguments[1:], ""], strict=True):
        if flag in ("-S", "--set-param"):
            found.append(value)
        elif flag.startswith("--set-param="):
            found.append(flag.partition("=")[2])
        elif flag.startswith("-S"):
            found.append(flag[2:])
    found = [override.removeprefix("params.yaml:") for override in found]
    return [override for override in found if ":" not in override.partition("=")[0]]
