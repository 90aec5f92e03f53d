"""How much of this machine a run uses: processors, memory, disk, network and GPUs."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def sampled(take: Callable[[dict[str, float], int], None], first: int) -> Iterator[None]:
    """Every ten seconds of the block, give `take` the numbers and a step.

    The numbers are MLflow's; its own thread would give up when its server is away. Its environment
    variable MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL sets another number of seconds.

    Args:
        first: step.
    """
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    monitor = SystemMetricsMonitor("")  # of no MLflow run: it only reads the numbers
    ended = threading.Event()

    def sample() -> None:
        step = first
        while True:
            monitor.collect_metrics()
            if ended.wait(monitor.sampling_interval):
                return
            try:
                take(monitor.aggregate_metrics(), step)
            except OSError:
                return  # the disk is full: the run's own numbers meet it too, and say so
            step += 1

    thread = threading.Thread(target=sample, name="system use", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
