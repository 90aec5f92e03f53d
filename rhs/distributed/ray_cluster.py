"""Connecting to Ray: a cluster that is there, or a local one for the length of this process."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rhs.distributed.ray_address import (
    LOCKED,
    TRIES,
    address_of,
    check_answer,
    check_auth_mode,
    resolve_address,
    unreachable,
)
from rhs.distributed.ray_environment import (
    commands_for_ray,
    executable,
    give_token,
    temporary_folder,
)
from rhs.errors import UserError
from rhs.signals import preserved_handlers

if TYPE_CHECKING:  # from above: the types alone
    from rhs.config.settings import ClusterConfig

MOST_WORKERS = 100_000


def connect(cluster: ClusterConfig) -> None:
    """Start or join a Ray cluster; does nothing when this process is connected already.

    `cluster.address` (or RAY_ADDRESS, which `ray job submit` sets) names a running cluster. Without
    either, a local one is started that listens on 127.0.0.1 alone and ends with this process.
    Exception: the rendezvous of torch.distributed, while several workers train, listens on all
    interfaces.
    What workers print goes to Ray's logs; a run's own lines come through its journal.

    Raises:
        UserError: the workers do not fit into the local cluster, there is none at that address, or
            see `workers_of`.
    """
    workers_of(cluster.num_workers)
    found = address_of(cluster.address)
    check_auth_mode()
    if found is None:
        # Ray reads this on import. It is named after the systems whose firewalls complain of
        # servers; what it does is keep every process of the cluster on the loopback address.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    import ray

    if ray.is_initialized():
        return
    with preserved_handlers():  # Ray would answer SIGTERM in its own way
        if found is None:
            _start(cluster)
        else:
            _join(cluster, *found)


def _join(cluster: ClusterConfig, address: str, name: str) -> None:
    """A cluster that runs already."""
    import ray

    address = resolve_address(address, name)
    check_answer(address, name)
    os.environ.setdefault(TRIES, "5")
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except ConnectionError as error:
        raise UserError(unreachable(address, name, LOCKED)) from error
    except (ray.exceptions.RayError, RuntimeError, ValueError) as error:
        raise UserError(unreachable(address, name, str(error))) from error
    if short := _shortage(cluster):
        print(f"waiting for the cluster to grow: {short}")


def _start(cluster: ClusterConfig) -> None:
    """A cluster of this machine alone."""
    import ray
    from ray._private import ray_constants

    ray_constants.ENABLE_RAY_CLUSTER = False  # the same, where Ray had been imported before
    # Workers import this checkout even where it is not installed.
    env_vars = {"PYTHONPATH": str(Path(__file__).parents[2])}
    if sys.platform == "linux":
        env_vars["GLOO_SOCKET_IFNAME"] = "lo"  # the collectives too
    give_token()
    folder = temporary_folder()
    with commands_for_ray(ray.__file__, folder):
        ray.init(
            address="local",  # not one that happens to run here
            num_cpus=cluster.num_cpus,
            include_dashboard=False,
            _node_ip_address="127.0.0.1",
            _temp_dir=folder,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": env_vars, **executable()},
        )
    if short := _shortage(cluster):
        ray.shutdown()
        hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
        hint = "" if hidden is None else f" CUDA_VISIBLE_DEVICES is {hidden!r}."
        raise UserError(
            f"{short}. Fewer workers (cluster.num_workers) or less for each "
            f"(cluster.resources_per_worker) would fit.{hint if 'GPU' in short else ''}"
        )


def workers_of(num_workers: object) -> tuple[int, int]:
    """The least and the most workers that `cluster.num_workers` asks for.

    Raises:
        UserError: it is neither a number of workers nor a range of them.
    """
    counts: list[Any] = num_workers if isinstance(num_workers, list) else [num_workers] * 2
    whole = all(isinstance(count, int) and not isinstance(count, bool) for count in counts)
    if not whole or len(counts) != 2 or not 1 <= counts[0] <= counts[1] <= MOST_WORKERS:
        raise UserError(
            f"cluster.num_workers is {num_workers!r}; it must be a whole number of at least 1, or "
            "two of them, [least, most]."
        )
    return counts[0], counts[1]


def _shortage(cluster: ClusterConfig) -> str | None:
    """What the workers ask for and the cluster has not; None where they fit."""
    import ray

    there = ray.cluster_resources()
    workers, most = workers_of(cluster.num_workers)
    if cluster.input == "ray":
        # Training may take that many, and would leave none to decode.
        workers = most
        processors = workers * (cluster.resources_per_worker.get("CPU", 0) + 1)
        if processors > there.get("CPU", 0):
            return (
                f"cluster.input = ray needs one CPU more for each of the {workers} workers, "
                f"{processors:g} in all; there are {there.get('CPU', 0):g}"
            )
    for kind, each in cluster.resources_per_worker.items():
        if workers * each > there.get(kind, 0):
            return (
                f"cluster.num_workers = {workers} with {each} {kind} each need {workers * each} "
                f"{kind}; there are {there.get(kind, 0):g}"
            )
    return None


@contextmanager
def ordered_and_quiet() -> Iterator[None]:
    """Ray Data in the order of its input; its own bars and logs would drown ours."""
    import ray.data

    context = ray.data.DataContext.get_current().copy()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logger = logging.getLogger("ray.data")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with ray.data.DataContext.current(context):
            yield
    finally:
        logger.setLevel(level)
