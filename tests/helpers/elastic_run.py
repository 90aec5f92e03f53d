"""A run on a Ray cluster of several nodes on this machine, which loses one and gets it back.

    python elastic_run.py SHARDS FOLDER

Prints the run's own lines, and a line starting with "node" when one goes or comes.
"""

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# As rhs.distributed.ray_cluster does for its own: every process on the loopback address.
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
os.environ["GLOO_SOCKET_IFNAME"] = "lo"

import ray
from ray.cluster_utils import Cluster
from tiny_project import ROOT, small_params

from rhs.run import Run
from rhs.tracking.tracker import NullTracker
from rhs.training.driver import fit


def wait_for(journal: Path, text: str, times: int = 1) -> None:
    deadline = time.monotonic() + 120
    while not journal.exists() or journal.read_text().count(text) < times:
        assert time.monotonic() < deadline, f"{text!r} did not come {times} times"
        time.sleep(0.1)


def lose_and_regain(cluster: Cluster, node, journal: Path) -> None:
    wait_for(journal, "epoch 1/")
    cluster.remove_node(node, allow_graceful=False)
    print("node lost", flush=True)
    wait_for(journal, "1 worker(s)")
    cluster.add_node(num_cpus=1)
    print("node is back", flush=True)
    wait_for(journal, "2 worker(s)", times=2)


def main(shards: Path, folder: Path) -> None:
    os.environ["PYTHONPATH"] = f"{ROOT}:{ROOT / 'tests' / 'helpers'}"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    cluster.add_node(num_cpus=1)
    second = cluster.add_node(num_cpus=1)
    settings = small_params(
        "method=rhs_npair",
        "train.epochs=400",
        "train.lr=3e-5",
        f"cluster.address={cluster.address}",
        "cluster.num_workers=[1,2]",
        "cluster.max_failures=3",
        "cluster.elastic_seconds=2",
        "cluster.checkpoint.every_steps=2",
    )
    run = Run("elastic", folder / "runs" / "elastic")
    with ThreadPoolExecutor(1) as pool:
        fitting = pool.submit(fit, settings, shards, run, NullTracker())
        lose_and_regain(cluster, second, run.journal)  # nodes start from the main thread alone
        fitting.result()
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
