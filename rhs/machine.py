"""What a figure was measured on."""

import os
import platform
from pathlib import Path


def describe() -> str:
    """Processor, its count, the GPU if there is one, and the version of torch."""
    import torch

    told = Path("/proc/cpuinfo")
    lines = told.read_text().splitlines() if told.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{os.cpu_count()} x {name}{gpu}, torch {torch.__version__}"
