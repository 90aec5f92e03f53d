"""Study: methods x data sets x seeds, all tuned alike -> studies/<name>/results/.

    python -m pipelines.study study=NAME [study.seeds=[0,1] ...] [overrides that all share ...]

Data sets that are not prepared are fetched and preprocessed. Run it again after any interruption
and it continues. It is no stage of the default pipeline.
"""

import shlex
import sys
from functools import partial
from pathlib import Path

from pipelines.ensure_shards import prepared
from rhs.config.compose import compose
from rhs.config.settings import Params
from rhs.errors import UserError
from rhs.paths import project_folder
from rhs.stage import stage
from rhs.storage.lease import exclusive
from rhs.study.settings import load_study
from rhs.study.study import Study
from rhs.study.tracking import tracked_study

DEFAULT = "glyphs"


def divided(arguments: list[str]) -> tuple[str, list[str], list[str]]:
    """The study's file, changes to it, and the overrides that everything shares."""
    names = [each.partition("=")[2] for each in arguments if each.startswith("study=")]
    changes = [each for each in arguments if each.startswith("study.")]
    base = [each for each in arguments if not each.startswith(("study=", "study."))]
    return (names or [DEFAULT])[-1], changes, base


def main(params: Params, arguments: list[str]) -> None:
    """Run the study, and write what was found.

    Args:
        params: as the overrides compose, for where to work.
        arguments: of the command line.
    """
    name, changes, more = divided(arguments)
    settings = load_study(name, changes, more)
    if params.cluster.storage is not None:
        raise UserError(
            f"cluster.storage is {params.cluster.storage!r}; a study works in the project's own "
            "folder, which every node must see: it takes null."
        )
    folder = project_folder() / "studies" / settings.name
    command = shlex.join(["python", "-m", "pipelines.study", *arguments])
    with exclusive(folder, f"the study in {folder}"):
        datasets = {label: [*settings.base, *given] for label, given in settings.data.items()}
        names = [compose(given).dataset.name for given in datasets.values()]
        if twice := [name for name in names if names.count(name) > 1]:
            raise UserError(
                f"study.data has two sets with dataset.name={twice[0]}; give each its own."
            )
        shards = {label: prepared(compose(given)) for label, given in datasets.items()}
        study = Study(settings, shards, folder, command)
        if not settings.baselines:
            print("note: no method is among study.baselines, so that nothing is compared")
        study.check()  # before anything is recorded: a mistake is no study
        with tracked_study(settings, shards, folder) as study.tracker:
            study.run()
    print(f"tables and pictures: {(folder / 'results').relative_to(Path.cwd())}")


if __name__ == "__main__":
    given = sys.argv[1:]
    # `stage` needs to know where to work; without overrides it would read params.yaml instead.
    sys.argv[1:] = divided(given)[2] or ["seed=0"]
    stage(partial(main, arguments=given))
