"""Models that MLflow keeps, as folders."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from rhs.config.redact import without_secrets
from rhs.errors import UserError
from rhs.storage.atomic import atomic_folder
from rhs.storage.outputs import ANYTHING
from rhs.tracking.tracker import IMPATIENT, QUIET, environment
from rhs.tracking.tracking_uri import database_file, tracking_uri

NAMED = re.compile(r"(?:models:/)?(?P<name>[^@/]+)@(?P<alias>[^@/]+)")
NUMBERED = re.compile(r"models:/(?P<name>[^@/]+)/(?P<version>\d+)")


def registered_model(where: str) -> Path:
    """The folder of a registered model: NAME@ALIAS or models:/NAME/VERSION.

    Raises:
        UserError: there is none of that name, or MLflow cannot be asked.
    """
    named, numbered = NAMED.fullmatch(where), NUMBERED.fullmatch(where)
    with _mlflow(where) as client:
        if named:
            version = client.get_model_version_by_alias(named["name"], named["alias"])
        elif numbered:
            version = client.get_model_version(numbered["name"], numbered["version"])
        else:
            raise UserError(
                f"{where!r} names no registered model; accepted: NAME@ALIAS, models:/NAME@ALIAS, "
                "models:/NAME/VERSION."
            )
        return _files(client, str(version.source).removeprefix("models:/"))


def model_of_run(run_id: str) -> Path:
    """The folder of the last model that an MLflow run logged.

    Raises:
        UserError: there is no such run, it has no model, or MLflow cannot be asked.
    """
    with _mlflow(f"run {run_id}") as client:
        outputs = client.get_run(run_id).outputs
        logged = outputs.model_outputs if outputs else []
        if not logged:
            raise UserError(
                f"MLflow run {run_id} has no model: `python -m pipelines.evaluate` registers it."
            )
        models = [client.get_logged_model(output.model_id) for output in logged]
        newest = max(models, key=lambda model: model.creation_timestamp)
        return _files(client, newest.model_id)


def _files(client: Any, model_id: str) -> Path:
    """Where the files of a logged model are; fetched once where they are not on this machine."""
    here = _on_this_machine(str(client.get_logged_model(model_id).artifact_location))
    if here is not None:
        return here
    import mlflow

    out = _cache() / re.sub(r"[^\w.-]", "_", model_id)
    if not out.is_dir():
        with atomic_folder(out, ANYTHING) as folder:
            mlflow.artifacts.download_artifacts(
                artifact_uri=f"models:/{model_id}", dst_path=str(folder)
            )
    return out


def _on_this_machine(location: str) -> Path | None:
    """The folder that an address of MLflow's names, if it is one here."""
    address = urlparse(location)
    folder = Path(unquote(address.path))
    return folder if address.scheme in ("", "file") and folder.is_dir() else None


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "rhs-dml")


@contextmanager
def _mlflow(what: str) -> Iterator[Any]:
    """A client of MLflow, whose errors are told in a sentence that names what was asked for."""
    uri = tracking_uri()
    place = without_secrets(uri)
    if (local := database_file(uri)) and not local.is_file():
        # MLflow would make an empty one.
        raise UserError(
            f"{what} was not looked for: there is no database {local}; run this from the "
            "project's root, or set MLFLOW_TRACKING_URI."
        )
    with environment({k: v for k, v in (QUIET | IMPATIENT).items() if k not in os.environ}):
        import mlflow

        from rhs.tracking.mlflow_run import is_away, is_refused, reason

        try:
            mlflow.set_tracking_uri(uri)
            yield mlflow.MlflowClient(uri)
        except UserError:
            raise
        except Exception as error:
            if is_away(error):
                raise UserError(f"MLflow at {place} does not answer ({reason(error)}).") from error
            if not is_refused(error):
                raise
            raise UserError(f"MLflow at {place} has no {what} ({reason(error)}).") from error
