"""Describes the hardware a result was measured on."""

import os
import platform
from pathlib import Path

from rhs.errors import UserError


def describe_hardware() -> str:
    """Processor, its count, the GPU if there is one, and the version of torch."""
    import torch

    told = Path("/proc/cpuinfo")
    lines = told.read_text().splitlines() if told.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{os.cpu_count()} x {name}{gpu}, torch {torch.__version__}"


def threads() -> int:
    """How many threads OMP_NUM_THREADS wants, the first of its list as OpenMP has it; 1 without it.

    Raises:
        UserError: it is no number of threads, which libraries would pass over with a warning.
    """
    given = os.environ.get("OMP_NUM_THREADS", "").strip() or "1"
    counts = [count.strip() for count in given.split(",")]
    if not all(count.isascii() and count.isdigit() and int(count) for count in counts):
        raise UserError(
            f"OMP_NUM_THREADS is {given!r}; it must be a number of threads of at least 1, or a "
            "list of them."
        )
    return int(counts[0])
