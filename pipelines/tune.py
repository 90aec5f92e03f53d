"""Tune: search settings on held-out classes -> conf/experiment/<name>.yaml and tuning/<name>/.

    python -m pipelines.tune tune=NAME [tune.trials=30 ...] [overrides that all trials share ...]

A data set that is not prepared is fetched and preprocessed. Run it again after any interruption and
it continues. It is no stage of the default pipeline.
"""

import shlex
import sys
from functools import partial
from pathlib import Path

from pipelines.ensure_shards import is_of, prepared
from rhs.config.compose import compose
from rhs.config.overrides import assigned
from rhs.config.settings import Params
from rhs.data.shards import load_manifest
from rhs.datasets.input_guard import refuse_inputs
from rhs.errors import UserError
from rhs.paths import project_folder
from rhs.run import Run
from rhs.stage import stage
from rhs.storage.lease import exclusive
from rhs.tracking.tracker import tracked
from rhs.tuning.results import Provenance, experiment_file, write_experiment, write_results
from rhs.tuning.search import search, search_folder
from rhs.tuning.search_space import check_paths
from rhs.tuning.settings import load_settings
from rhs.tuning.trial import check_range_ends

DEFAULT = "default"


def divided(arguments: list[str]) -> tuple[str, list[str], list[str]]:
    """The search's file, changes to it, and the overrides that all trials share."""
    names = [each.partition("=")[2] for each in arguments if each.startswith("tune=")]
    changes = [each for each in arguments if each.startswith("tune.")]
    base = [each for each in arguments if not each.startswith(("tune=", "tune."))]
    return (names or [DEFAULT])[-1], changes, base


def main(params: Params, arguments: list[str]) -> None:
    """Search, and write what was found.

    Args:
        params: unused: which parameters hold is said by `arguments`, composed anew.
        arguments: of the command line.
    """
    name, changes, base = divided(arguments)
    settings = load_settings(name, changes)
    if ("experiment", settings.name) in [assigned(override) for override in base]:
        raise UserError(
            f"experiment={settings.name} is what this search writes: choose another tune.name."
        )
    experiment_file(settings.name)  # refuses before the work, not after
    check_paths(settings.dimensions, base)
    params = compose(base)
    refuse_inputs(params)
    shards = Path("data/shards", params.dataset.name)
    if not shards.exists():
        prepared(params)
    manifest = load_manifest(shards)
    if "settings" in manifest and not is_of(params, shards):
        raise UserError(
            f"{shards} was made from another source or with other settings: run pipelines.fetch "
            "and pipelines.preprocess with these overrides first, or choose another dataset.name."
        )
    folder = project_folder() / "tuning" / settings.name
    home = search_folder(base, settings, shards, folder)
    if not home.exists():
        check_range_ends(settings.dimensions, base, shards)
    print(f"search {home.relative_to(project_folder())}: {settings.trials} trials")
    run = Run(f"tune-{settings.name}-{home.name}", home)
    command = shlex.join(["python", "-m", "pipelines.tune", *arguments])
    with (
        exclusive(folder, f"the search in {folder}"),  # first: who is refused has recorded nothing
        tracked(params, run, manifest) as tracker,
    ):
        found = search(base, settings, shards, folder, tracker)
        origin = Provenance(command, {manifest["dataset"]: manifest["digest"]})
        write_results(folder / "results", settings, found, params, origin)
        tracker.artifacts(folder / "results", "tuning")
        file = write_experiment(base, settings, found, origin)
    print(f"best {settings.objective} {found.value:.1%}: {' '.join(found.overrides)}")
    print(f"{file}; train it with: dvc exp run -S experiment={settings.name}")
    print(f"tables and pictures: {(folder / 'results').relative_to(Path.cwd())}")


if __name__ == "__main__":
    given = sys.argv[1:]
    sys.argv[1:] = ["seed=0"]  # for `stage`; what a search runs is composed in `main`
    stage(partial(main, arguments=given))
