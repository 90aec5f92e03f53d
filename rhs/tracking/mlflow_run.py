"""The MLflow run of a run: found or created, and whether an error of MLflow may pass."""

import re
import sqlite3
import sys
from contextlib import closing
from typing import Any

from rhs.config.redact import without_secrets
from rhs.paths import project_folder
from rhs.run import Run
from rhs.tracking.provenance import describe
from rhs.tracking.tracking_uri import database_file

NAME_TAG = "rhs.run"  # of an MLflow run: the run's name
DESCRIBED_TAG = "data.digest"  # set last: the run is described
PASSING = (408, 429, 500, 502, 503, 504)  # HTTP statuses of a server that is busy or not up yet
LOCKED = ("database is locked", "database table is locked", "database is busy")
# What the servers of databases say of an address or a login that will never work.
WRONG = (
    "authentication failed",
    "access denied",
    "login failed",
    "no pg_hba.conf entry",
    "does not exist",
    "unknown database",
    "cannot open database",
)
DATABASES = ("postgresql", "mysql", "mssql")
# Packages whose errors say what MLflow, or the store of its files, thinks of a request.
SPEAKERS = ("mlflow", "requests", "sqlalchemy", "sqlite3", "boto3", "botocore", "google", "azure")
LONGEST = 200  # characters of somebody else's message


def open_run(uri: str, params: Any, run: Run, manifest: dict) -> tuple[Any, str]:
    """The MLflow run of `run`, described: a client and the run's id.

    One that was made before is taken up, even where `run.folder` does not remember it: a second one
    would show half of the numbers each.

    Raises:
        Exception: of many kinds; see `is_away`.
    """
    from mlflow import MlflowClient
    from mlflow.tracking.context.registry import resolve_tags

    _probe(uri)
    client = MlflowClient(uri)
    experiment = _experiment(client, uri, params.tracking.experiment)
    remembered = run.folder / "mlflow_run_id"
    found = None
    if remembered.exists():
        run_id = remembered.read_text().strip()
        found = _run(client, run_id, experiment)
        if found is None:
            print(
                f"MLflow run {run_id} is not in experiment {params.tracking.experiment!r} at "
                f"{without_secrets(uri)}: continuing in another",
                file=sys.stderr,
            )
    if found is None:
        same = client.search_runs([experiment], f"tags.`{NAME_TAG}` = '{run.name}'", max_results=1)
        short = run.name.removeprefix(f"{manifest['dataset']}-")  # the experiment says the rest
        tags = resolve_tags({NAME_TAG: run.name})
        found = same[0] if same else client.create_run(experiment, tags=tags, run_name=short)
        run.folder.mkdir(parents=True, exist_ok=True)
        remembered.write_text(found.info.run_id + "\n")
    if DESCRIBED_TAG not in found.data.tags:
        describe(client, found, params, manifest)
    return client, found.info.run_id


def known_steps(client: Any, run_id: str) -> dict[str, int]:
    """The last steps of the curves that an MLflow run has."""
    known = {}
    for group in ("train", "step"):
        history = client.get_metric_history(run_id, f"{group}/loss")
        if history:
            known[group] = max(point.step for point in history)
    return known


def is_away(error: BaseException) -> bool:
    """Whether MLflow may answer later; False: never, by this address and with these permissions."""
    import requests
    from mlflow.exceptions import RestException
    from sqlalchemy.exc import OperationalError

    unreachable = (requests.ConnectionError, requests.Timeout, requests.exceptions.RetryError)
    for each in _chain(error):
        if isinstance(each, requests.exceptions.SSLError):
            return False  # a certificate, not the network
        if isinstance(each, (ConnectionError, TimeoutError, *unreachable)):
            return True
        if isinstance(each, sqlite3.OperationalError):
            return any(text in str(each) for text in LOCKED)
        if isinstance(each, OperationalError) and not isinstance(each.orig, sqlite3.Error):
            # The server of the database.
            return not any(text in str(each.orig).lower() for text in WRONG)
        if isinstance(each, RestException) and each.get_http_status_code() in PASSING:
            return True
        status = re.search(r"failed with error code (\d+)", str(each))
        if status and int(status[1]) in PASSING:
            return True
    return False


def is_refused(error: BaseException) -> bool:
    """Whether an error that is not `is_away` is a refusal; False: it is an error of this code."""
    return type(error).__module__.partition(".")[0] in SPEAKERS


def reason(error: BaseException) -> str:
    """What went wrong, in a few words: the system's own, where it was the system's error."""
    from urllib3.exceptions import HTTPError

    deepest = _chain(error)[-1]
    said = str(deepest if isinstance(deepest, (OSError, sqlite3.Error, HTTPError)) else error)
    first = (said.strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    return without_secrets(first)[:LONGEST]


def _chain(error: BaseException) -> list[BaseException]:
    """The error, what it came from, and so on."""
    chain = [error]
    while (earlier := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(earlier)
    return chain


def _probe(uri: str) -> None:
    """Raises, at once, if `uri` is a database that cannot be used now: MLflow itself would try for
    minutes."""
    if file := database_file(uri):
        with closing(sqlite3.connect(file, timeout=1, isolation_level=None)) as database:
            database.execute("BEGIN IMMEDIATE")
            database.execute("ROLLBACK")
    elif re.split(r"\+|://", uri)[0] in DATABASES:
        from mlflow.store.db.utils import create_sqlalchemy_engine

        engine = create_sqlalchemy_engine(uri)
        engine.connect().close()
        engine.dispose()


def _experiment(client: Any, uri: str, name: str) -> str:
    """The id of the experiment, made where it is missing.

    Raises:
        MlflowException: it was deleted, or `name` is none.
    """
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        local = database_file(uri) is not None
        place = (project_folder() / "mlartifacts").as_uri() if local else None
        return client.create_experiment(name, artifact_location=place)
    if found.lifecycle_stage != "active":
        raise MlflowException(f"experiment {name!r} was deleted: restore it or take another")
    return found.experiment_id


def _run(client: Any, run_id: str, experiment: str) -> Any:
    """The run if it is there, in this experiment and not deleted, otherwise None."""
    from mlflow.exceptions import MlflowException

    try:
        found = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise
    right = found.info.lifecycle_stage == "active" and found.info.experiment_id == experiment
    return found if right else None
