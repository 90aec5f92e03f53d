"""Nothing that a parameter names may lie where the project replaces and deletes."""

import os
import re
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from rhs.config.redact import without_secrets
from rhs.errors import UserError
from rhs.storage.outputs import INSTEAD, PLACES, select, shown

OWN_IMAGES = re.compile(r"rhs\.datasets\.(cars196|cub200|glyphs|inshop|omniglot|sop)\.fetch")


def refuse_inputs(params: Any, root: Path | None = None) -> None:
    """Raises UserError if anything that the parameters name lies where the project writes.

    Sources, tables with their images, lists of classes, mirrors: in, at, above or beneath an
    output, by links too. Likewise if the source is one that nothing would read.

    Args:
        params: of a run, or as far as there are any.
        root: the folder that relative paths start from, and that has the outputs; None: this one.
    """
    refuse_unread_source(params)
    for name, path, whole in _inputs(params):
        refuse_input(name, path, whole, root)
    refuse_images(params, root)


def refuse_unread_source(params: Any) -> None:
    """Raises UserError if a source is named and the data set is one that reads none.

    Such a data set brings its own images, and `source` is its module, for DVC to depend on.
    """
    source = str(select(params, "dataset.source"))
    recipe = OWN_IMAGES.fullmatch(str(select(params, "dataset.fetch._target_")))
    if recipe and source != (own := f"rhs/datasets/{recipe[1]}.py"):
        raise UserError(
            f"dataset.source is {without_secrets(source)}, which {recipe[1]} does not read (it "
            f"has images of its own, and {own} here); for images of yours give dataset=folder, "
            "experiment=photos or dataset=table too."
        )


def refuse_input(name: str, path: str, whole: bool = True, root: Path | None = None) -> None:
    """Raises UserError if `path` lies in an output or, where all of it is read, holds one.

    Args:
        name: of the parameter.
        whole: whether all that lies beneath it is read.
    """
    bases = _bases(root)
    for place, base, start in product(PLACES, bases, bases):
        given, output = start / os.path.expanduser(path), base / place
        if _is_in(given, output):
            how = "is" if _is_in(output, given) else "lies in"
            raise UserError(_sentence(name, path, f"{how} {place}"))
        if whole and _is_in(output, given):
            raise UserError(_sentence(name, path, f"holds {place}"))


def refuse_images(params: Any, root: Path | None = None) -> None:
    """Raises UserError if an image of a table lies in an output.

    What cannot be read is passed over: the fetch stage says it.
    """
    recipe = select(params, "dataset.fetch")
    if not str(select(recipe, "_target_")).endswith(".table.fetch"):
        return
    from rhs.datasets.table_columns import read_columns
    from rhs.datasets.table_paths import Paths

    base = root or Path.cwd()
    table = base / os.path.expanduser(str(select(params, "dataset.source")))
    start = base / os.path.expanduser(str(recipe.get("root") or table.parent))
    wanted = {"path": str(recipe.get("path", "path")).strip()}
    try:
        column = read_columns(table, wanted, encoding=recipe.get("encoding"))["path"]
    except (UserError, OSError, LookupError):
        return
    rows = {row.strip() for row in column.to_pylist() if row and "\0" not in row}
    paths = Paths(start)
    files = [_file(paths, start, row) for row in sorted(rows)]
    places = {os.path.dirname(file): file for file in files}
    links = [os.path.realpath(file) for file in files if os.path.islink(file)]
    places |= {os.path.dirname(link): link for link in links}
    for folder, file in places.items():
        for output, project in product(PLACES, _bases(root)):
            if _is_in(Path(folder), project / output):
                raise UserError(_sentence("dataset.source", str(table), f"lies in {output}", file))


def _file(paths: Any, start: Path, row: str) -> str:
    """The file that a path of a table means; as it is written where there is none."""
    try:
        return str(paths.find(row))
    except OSError:
        return os.path.join(start, row)


def refuse_target(name: str, path: Path) -> None:
    """Raises UserError if what a command is to write would lie in an output."""
    for place in PLACES:
        if _is_in(Path.cwd() / path, Path.cwd() / place):
            raise UserError(
                f"{name} is {shown(path)}, in {place}, where stages replace what lies there: "
                "choose another place."
            )


def _inputs(params: Any) -> Iterator[tuple[str, str, bool]]:
    """Name and value of each parameter that names a file or folder; whether all of it is read."""
    for name in ("dataset.source", "fetch.mirror"):
        yield from ((name, path, True) for path in _paths(select(params, name)))
    if not select(params, "fetch.mirror"):
        yield from (("RHS_MIRROR", path, True) for path in _paths(os.environ.get("RHS_MIRROR")))
    # Of `root` only what the table lists is read, and into `folder` files are put by hand.
    for name in ("dataset.fetch.root", "fetch.folder"):
        yield from ((name, path, False) for path in _paths(select(params, name)))
    for name in ("dataset.train_classes", "dataset.test_classes"):
        given = select(params, name)
        if isinstance(given, str) and os.path.isfile(os.path.expanduser(given)):
            yield name, given, False


def _paths(value: object) -> list[str]:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)  # a folder 2024 comes from the command line as a number
    values = [value] if isinstance(value, str) else value if isinstance(value, Sequence) else []
    wanted = [each for each in values if isinstance(each, str) and each.strip()]
    return [each for each in wanted if "://" not in each and "\0" not in each]


def _bases(root: Path | None) -> list[Path]:
    """The folders whose outputs count: where a stage works, and the project itself."""
    from rhs.paths import project_folder

    here = root or Path.cwd()
    return list(dict.fromkeys([here, here if root else project_folder()]))


def _is_in(path: Path, folder: Path) -> bool:
    """Whether it is, or lies in, the folder: as it is written, or with all links followed."""
    written = Path(os.path.normpath(path)).is_relative_to(os.path.normpath(folder))
    return written or Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _sentence(name: str, path: str, where: str, image: str | None = None) -> str:
    own = os.path.basename(os.path.normpath(path))
    what, advice = f"{name} is {shown(path)}", f"and set {name}={INSTEAD}/{own}"
    if image is not None:
        own = os.path.basename(os.path.dirname(image))
        what, advice = f"{name} {shown(path)} lists {shown(image)}", "and list it there"
    advice = f"move it elsewhere, for instance to {INSTEAD}/{shown(own)}, {advice}"
    if where.startswith("holds "):
        advice = "give a folder that holds nothing but your own files"
    return f"{what}, which {where}, where stages replace and delete files: {advice}."
