"""Starts Ray Train, and returns when the run's last checkpoint is written."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from rhs.config.settings import ClusterConfig, Params
from rhs.distributed.mailbox import RemoteMailbox
from rhs.distributed.ray_cluster import connect, workers_of
from rhs.distributed.supervisor import deferred_signals, supervise, worker_deaths_as_user_errors
from rhs.errors import UserError
from rhs.paths import project_folder
from rhs.run import Run
from rhs.storage.object_store import ObjectStore
from rhs.storage.store import is_url, open_store
from rhs.tracking.tracker import NullTracker
from rhs.training import checkpoint, run_log
from rhs.training.worker import ray_worker


def fit(
    params: Params, shards: Path, run: Run, tracker: NullTracker, owner: str | None = None
) -> None:
    """Train with Ray Train; returns when the run's last checkpoint is written.

    The same call continues a run that was interrupted, on any number of workers.

    Args:
        params: as `check` has found them good.
        owner: of the run's lock, see rhs.storage.lease.

    Raises:
        UserError: they turned out not to be, for instance because the loss diverged.
        Interrupted: a signal asked this process to end.
    """
    from ray.train.torch import TorchTrainer

    if _is_trained(run, params.train.epochs):
        print(f"already trained: {run.checkpoints}")
        return
    connect(params.cluster)
    mailbox = RemoteMailbox()
    # Workers start elsewhere than here.
    cache = str(project_folder() / params.cluster.cache_folder)
    trainer = TorchTrainer(
        ray_worker,
        train_loop_config={
            "params": params.with_cluster(cache_folder=cache),
            "shards": str(shards.resolve()),
            "checkpoints": run.checkpoints,
            "mailbox": mailbox,
            "owner": owner,
        },
        **trainer_settings(params.cluster, run),
    )
    refusals: list[str] = []
    deliver: dict[str, Callable[[Any], None]] = {
        "line": partial(run_log.write, run.journal),
        "epoch": partial(_epoch_is_done, run.times, tracker),
        "steps": tracker.steps,
        "refusal": refusals.append,
    }
    with deferred_signals() as signals, worker_deaths_as_user_errors(params.cluster.max_failures):
        try:
            supervise(trainer.fit, mailbox, deliver, signals, params.cluster.grace_seconds)
        finally:
            mailbox.close()
    if refusals:
        raise UserError(refusals[0])


def _is_trained(run: Run, epochs: int) -> bool:
    store = open_store(run.checkpoints)
    if checkpoint.completed_epochs(store) < epochs:
        return False  # without reading its weights
    found = checkpoint.load_latest(store)
    return found is not None and found[1]["epochs_done"] >= epochs


def _epoch_is_done(times: Path, tracker: NullTracker, row: dict) -> None:
    tracker.metrics(row, row["step"])
    run_log.append(times, json.dumps(row))


def trainer_settings(cluster: ClusterConfig, run: Run) -> dict:
    """What Ray Train is told beside what to run."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig

    least, most = workers_of(cluster.num_workers)
    storage: dict = {"storage_path": str(run.folder.parent / "ray")}
    if is_url(run.checkpoints):
        filesystem, path = ObjectStore(f"{run.url}/ray").for_arrow()
        storage = {"storage_path": path, "storage_filesystem": filesystem}
    return {
        "scaling_config": ScalingConfig(  # mypy knows the one before it
            num_workers=most if least == most else (least, most),  # type: ignore[arg-type]
            elastic_resize_monitor_interval_s=cluster.elastic_seconds,  # type: ignore[call-arg]
            use_gpu=cluster.use_gpu,
            resources_per_worker=dict(cluster.resources_per_worker),
        ),
        "torch_config": TorchConfig(backend="nccl" if cluster.use_gpu else "gloo"),
        "run_config": RunConfig(
            name=run.name,
            failure_config=FailureConfig(max_failures=cluster.max_failures),
            **storage,
        ),
    }
