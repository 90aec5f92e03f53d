"""How much of this machine a run uses: processors, memory, disk, network and GPUs."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

INTERVAL = 10.0  # seconds


@contextmanager
def sampled(take: Callable[[dict[str, float], int], None]) -> Iterator[None]:
    """Every ten seconds of the block, give `take` the numbers and a step.

    The use of processors is the mean since the last sample, network traffic the sum since the
    first, everything else what it is at that moment. The step is the time in milliseconds since
    1970: it grows whatever an earlier try, on this machine or another, has recorded.

    The numbers are those of MLflow's monitors; MLflow's own thread would give up when its server is
    away. Its environment variable MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL sets another number of
    seconds.
    """
    from mlflow.environment_variables import MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL

    interval = MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL.get() or INTERVAL
    ended = threading.Event()

    def sample() -> None:
        monitors = _monitors()
        _read(monitors)  # the use of processors is counted from here
        with suppress(OSError):  # the disk is full: the run's own numbers meet it too, and say so
            while not ended.wait(interval):
                take(_read(monitors), int(time.time() * 1000))

    thread = threading.Thread(target=sample, name="system use", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _monitors() -> list[Any]:
    """MLflow's, of what there is here. Not its SystemMetricsMonitor: that one opens MLflow."""
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor
    from mlflow.system_metrics.metrics.rocm_monitor import ROCMMonitor

    monitors: list[Any] = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    for kind in (GPUMonitor, ROCMMonitor):
        with suppress(Exception):  # no such GPU or no package for it; each has its own error
            monitors.append(kind())
    return monitors


def _read(monitors: list[Any]) -> dict[str, float]:
    """One sample."""
    numbers: dict[str, float] = {}
    for monitor in monitors:
        monitor.clear_metrics()  # it would give the mean of all samples so far
        monitor.collect_metrics()
        numbers |= monitor.aggregate_metrics()
    return numbers
