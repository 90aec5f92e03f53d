"""What params.yaml held before `dvc exp run` composes it anew, told to the stages of that run.

DVC loads this (`hydra.plugins_path` in .dvc/config) right before it composes; its environment is
that of the stages. pipelines/inputs.py says what the composition takes away.
"""

import os
import sys
from pathlib import Path

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin

ROOT = Path(__file__).parents[2]
KEPT = ROOT / ".dvc/tmp/params_before.yaml"


class ParamsBefore(SearchPathPlugin):
    """Changes no search path: this is the one moment when Hydra calls what is not its own."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        os.environ.pop("RHS_PARAMS_BEFORE", None)
        try:
            KEPT.write_bytes((ROOT / "params.yaml").read_bytes())
        except OSError:  # no params.yaml, or a full disk: DVC will say it
            return
        os.environ["RHS_PARAMS_BEFORE"] = str(KEPT)
        os.environ["RHS_PARAMS_GIVEN"] = "\n".join(_given(sys.argv))


def _given(arguments: list[str]) -> list[str]:
    """The overrides of `dvc exp run -S a=1 --set-param b=2 --set-param=c=3 -Sd=4`."""
    given = []
    for flag, value in zip(arguments, [*arguments[1:], ""], strict=True):
        if flag in ("-S", "--set-param"):
            given.append(value)
        elif flag.startswith("--set-param="):
            given.append(flag.partition("=")[2])
        elif flag.startswith("-S"):
            given.append(flag[2:])
    return given
