"""Where a path points that a person gave as a parameter."""

import os
from pathlib import Path


def project_folder() -> Path:
    """The project folder. DVC runs queued experiments in copies of it under .dvc/tmp/exps: runs and
    their tracking belong to the project itself, not to a copy that goes away."""
    here = Path.cwd()
    for folder in here.parents:
        if folder.name == ".dvc" and here.is_relative_to(folder / "tmp" / "exps"):
            return folder.parent
    return here


def in_project(path: str | Path) -> Path:
    """A path of the parameters: `~` is the home; a relative one begins at the project folder."""
    given, here = Path(os.path.expanduser(path)), project_folder()
    return given if here == Path.cwd() else here / given


def locate(path: str | Path) -> Path:
    """Where a file or folder of the parameters is.

    A queued experiment's copy of the project has what git knows, and nothing else: what is not
    there is looked for in the project itself.
    """
    given = os.path.expanduser(path)
    # Not Path.exists, which raises where a regular expression is too long for a name.
    return Path(given) if os.path.exists(given) else in_project(given)
