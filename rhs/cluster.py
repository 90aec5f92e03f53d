"""Connecting to Ray: a cluster that is there, or a local one for the length of this process."""

import logging
import os
import sys
from pathlib import Path

from omegaconf import DictConfig


def connect(cluster: DictConfig) -> None:
    """Start or join a Ray cluster; does nothing when this process is connected already.

    `cluster.address` (or RAY_ADDRESS, which `ray job submit` sets) names a running cluster. Without
    either, a local one is started that listens on 127.0.0.1 alone and ends with this process.
    """
    import ray

    if ray.is_initialized():
        return
    quiet = not sys.stderr.isatty()
    # Workers import this checkout even where it is not installed.
    runtime_env = {"env_vars": {"PYTHONPATH": str(Path(__file__).parents[1])}}
    address = cluster.get("address") or os.environ.get("RAY_ADDRESS")
    if address:
        ray.init(address=address, log_to_driver=True, logging_level=logging.WARNING)
        return
    os.environ.setdefault("RAY_TRAIN_ENABLE_STATE_TRACKING", "0")
    ray.init(
        num_cpus=cluster.get("num_cpus"),
        include_dashboard=False,
        _node_ip_address="127.0.0.1",
        logging_level=logging.ERROR if quiet else logging.WARNING,
        runtime_env=runtime_env,
    )
