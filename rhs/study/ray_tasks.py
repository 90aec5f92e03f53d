"""Cells as tasks of Ray: as many at once as the cluster has room for, in processes that stay."""

from collections.abc import Iterator, Sequence
from typing import Any

from rhs.config.settings import ClusterConfig
from rhs.distributed.mailbox import AGAIN
from rhs.distributed.ray_cluster import connect
from rhs.distributed.supervisor import deferred_signals
from rhs.distributed.worker_deaths import AT_ONCE, describe_death
from rhs.errors import Interrupted
from rhs.study.cells import Cell, Cells, try_cell

EVERY = 0.5  # seconds between looks for a signal


def run_on_ray(cells: Sequence[Cell], kept: Cells) -> Iterator[tuple[Cell, dict]]:
    """Each cell and what came of it, in the order in which they finish.

    A task whose process dies starts again from its checkpoint, `cluster.max_failures` times.

    Raises:
        Interrupted: a signal asked this process to end; cells go on from their checkpoints.
    """
    import ray

    if not cells:
        return
    connect(cells[0].params.cluster)
    waiting: dict[Any, Cell] = {}
    with deferred_signals() as signals:
        for cell in cells:
            home = kept.home(cell).resolve()
            remote = ray.remote(try_cell).options(**_options(cell.params.cluster))
            waiting[remote.remote(cell.params, cell.shards.resolve(), home, cell.digest)] = cell
        try:
            while waiting:
                done, _ = ray.wait(list(waiting), num_returns=1, timeout=EVERY)
                if signals:
                    raise Interrupted(signals[0], f"stopped; {AGAIN} from the last checkpoints")
                for task in done:
                    yield waiting.pop(task), _result(task)
        finally:
            for task in waiting:
                ray.cancel(task, force=True)


def _options(cluster: ClusterConfig) -> dict:
    """What Ray is told that a cell needs: what a worker of data-parallel training does."""
    each = dict(cluster.resources_per_worker)
    needs = {"num_cpus": each.pop("CPU", 1), "num_gpus": each.pop("GPU", 0), "resources": each}
    return needs | {"max_retries": cluster.max_failures}


def _result(task: Any) -> dict:
    import ray

    try:
        return ray.get(task)
    except ray.exceptions.RayTaskError as error:  # before or behind what `attempt` catches
        return {"failed": f"Ray: {str(error).strip().splitlines()[-1]}"}
    except ray.exceptions.RayError as error:
        return {"failed": f"its process died ({describe_death(error, AT_ONCE)})"}
