"""Where a model is, by what people call it: a folder, a run, or a name in MLflow's registry."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rhs.errors import UserError
from rhs.inference.index import FACTS, LEFT_OUT
from rhs.models.embedder import CONFIG, WEIGHTS, load_config
from rhs.paths import project_folder

ACCEPTED = (
    "a folder with a model, the name of a folder in runs/, the id of an MLflow run, NAME@ALIAS, "
    "models:/NAME@ALIAS, or models:/NAME/VERSION"
)


@dataclass(frozen=True)
class ModelLocation:
    """A model's folder, and that of its index, or None where there is none."""

    model: Path
    index: Path | None


def locate_model(where: str | None) -> ModelLocation:
    """Find a model and its index.

    Args:
        where: one of `ACCEPTED`; None: the one in models/, if there is exactly one.

    Raises:
        UserError: there is no such model, MLflow cannot be asked, or the choice is not clear.
    """
    if where is None:
        return _only()
    folder = Path(os.path.expanduser(where))  # Path's own fails for users that there are not
    if folder.is_dir():
        return _in_folder(folder)
    if where.startswith("models:/") or "@" in where:
        from rhs.inference.mlflow_registry import registered_model

        return _in_folder(registered_model(where))
    if "/" not in where and (run := project_folder() / "runs" / where).is_dir():
        return _of_run(where, run)
    if len(where) == 32 and all(c in "0123456789abcdef" for c in where):
        from rhs.inference.mlflow_registry import model_of_run

        return _in_folder(model_of_run(where))
    raise UserError(f"No model is called {where!r}; accepted: {ACCEPTED}.")


def _only() -> ModelLocation:
    """The model in models/ if it is the only one."""
    models = _models()
    if not models:
        raise UserError(
            f"There is no model in {Path('models').absolute()}: run the train stage, or say which "
            f"with --model: {ACCEPTED}."
        )
    if len(models) > 1:
        listed = ", ".join(map(str, models))
        raise UserError(f"There are several models: say which with --model ({listed}).")
    return _in_folder(models[0])


def _models() -> list[Path]:
    return sorted(folder for folder in Path("models").glob("*") if _is_model(folder))


def _in_folder(folder: Path) -> ModelLocation:
    """The model in a folder, or in what MLflow keeps of one."""
    if _is_model(folder):
        beside = (folder / "index", folder.absolute().parent.parent / "index" / folder.name)
        return ModelLocation(folder, next((place for place in beside if _is_index(place)), None))
    if (folder / "MLmodel").is_file():
        return _logged(folder)
    if _is_model(folder / "model"):
        return ModelLocation(folder / "model", _index_in(folder / "index"))
    raise UserError(f"{folder} holds no model: {WEIGHTS} and {CONFIG} are expected there.")


def _logged(folder: Path) -> ModelLocation:
    """The model and index within a model that MLflow keeps; none of its code is run."""
    import yaml

    listed: Any
    try:
        text = (folder / "MLmodel").read_text(encoding="utf-8")
        listed = yaml.safe_load(text)["flavors"]["python_function"]["artifacts"]
        paths = {name: (folder / str(listed[name]["path"])).resolve() for name in listed}
    except (yaml.YAMLError, LookupError, TypeError, UnicodeDecodeError):
        paths = {}
    inside = {name: path for name, path in paths.items() if path.is_relative_to(folder.resolve())}
    if "model" not in inside or not _is_model(inside["model"]):
        raise UserError(f"{folder} is a model of MLflow's, but none that this project registered.")
    return ModelLocation(inside["model"], _index_in(inside.get("index")))


def _of_run(name: str, folder: Path) -> ModelLocation:
    """The model of a run of this project: still in models/, else as MLflow keeps it."""
    for model in _models():
        if load_config(model).get("run") == name:
            return _in_folder(model)
    remembered = folder / "mlflow_run_id"
    if not remembered.is_file():
        raise UserError(
            f"Run {name!r} has no model: none in models/ is of it, and MLflow has not recorded it."
        )
    from rhs.inference.mlflow_registry import model_of_run

    return _in_folder(model_of_run(remembered.read_text().strip()))


def _is_model(folder: Path) -> bool:
    return (folder / WEIGHTS).is_file() and (folder / CONFIG).is_file()


def _is_index(folder: Path) -> bool:
    """Whether there is one, or the reason why there is none."""
    return (folder / FACTS).is_file() or (folder / LEFT_OUT).is_file()


def _index_in(folder: Path | None) -> Path | None:
    return folder if folder is not None and _is_index(folder) else None
