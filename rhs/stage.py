"""What every pipeline stage shares: reading its parameters and saying a user's mistake plainly."""

import io
import os
import signal
import sys
from collections.abc import Callable

from rhs.config.compose import load_params
from rhs.config.settings import Params
from rhs.datasets.input_guard import refuse_inputs
from rhs.distributed.ray_environment import check_project, find_home
from rhs.errors import Interrupted, UserError, on_one_line
from rhs.explain import explain
from rhs.signals import AGAIN, interruptible, status_of
from rhs.storage.object_store import ObjectStore
from rhs.storage.store import open_store
from rhs.tracking.hardware import threads

# Ray and MLflow report usage to their makers unless told not to.
PRIVATE = {"RAY_USAGE_STATS_ENABLED": "0", "MLFLOW_DISABLE_TELEMETRY": "true"}


def stage(main: Callable[[Params], None]) -> None:
    """Run a stage's `main`; a user's mistake or a full disk ends in one sentence and status 1."""
    for name, value in PRIVATE.items():
        os.environ.setdefault(name, value)
    find_home()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names have what a terminal has not
    try:
        with interruptible():
            check_project()
            threads()  # a mistake is told before the work, not by a worker
            params = load_params(sys.argv[1:])
            refuse_inputs(params)  # in the project, where DVC works,
            enter_storage(params.cluster.storage)
            refuse_inputs(params)  # and in the folder that the stage works in
            main(params)
            sys.stdout.flush()  # here, where a reader who left is understood
    except KeyboardInterrupt as interrupt:
        sys.exit(status_of(interrupt))
    except SystemExit as left:  # Ray's answer to SIGTERM, while it starts, is the bare number
        if left.code != signal.SIGTERM:
            raise
        sys.exit(status_of(Interrupted(signal.SIGTERM, AGAIN)))
    except BrokenPipeError:  # who read the lines has left; the work is not done
        print(
            "error: nobody reads what this prints any more; " + AGAIN.partition("; ")[2] + ".",
            file=sys.stderr,
        )
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except Exception as error:  # anything that is not the user's to mend keeps its traceback
        sentence = explain(error)
        if sentence is None:
            sys.excepthook = sys.__excepthook__  # Ray's own waits for a Ray that may be gone
            raise
        print(f"error: {on_one_line(sentence)}", file=sys.stderr)
        sys.exit(1)


def enter_storage(storage: str | None) -> None:
    """Work in `cluster.storage`, where it is a folder: `data/`, `runs/` and such are found there.

    A job of a Ray cluster starts in a copy of the code that has none of them. An object store (a
    URL) is tried out, and the work goes on in the present folder.

    Raises:
        UserError: there is no such folder, or the object store cannot be used.
    """
    if storage is None:
        return
    if not isinstance(storage, str):
        raise UserError(
            f"cluster.storage is {storage!r}; it must be a folder, or s3://bucket/prefix."
        )
    store = open_store(storage)
    if isinstance(store, ObjectStore):
        store.check()
        return
    if not store.path.is_dir():
        raise UserError(
            f"cluster.storage is {storage!r}, which is not a folder here: give one that every node "
            "of the cluster sees under this path, or an object store (s3://bucket/prefix)."
        )
    os.chdir(store.path)
