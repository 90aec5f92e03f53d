"""What a figure was measured on."""

import os
import platform
from pathlib import Path


def describe() -> str:
    """Processor, its count, and the versions that matter."""
    import torch

    names = [
        line.split(":", 1)[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    name = names[0] if names else platform.processor() or platform.machine()
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{os.cpu_count()} x {name}{gpu}, torch {torch.__version__}"
