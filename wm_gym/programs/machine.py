"""What figures were measured on."""

import os
import platform

import torch


def machine() -> str:
    where = f"{platform.platform()}, {platform.machine()}, {cores()} cores"
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{where}{gpu}, torch {torch.__version__}"


def cores() -> int:
    """That this process may use, which `taskset` and containers can make fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
