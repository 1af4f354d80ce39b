"""Picks a torch device by name, and knows the limits of some devices."""

from __future__ import annotations

import os
import platform
import warnings
from functools import cache
from pathlib import Path

import psutil
import torch

from rltrain.errors import ConfigError

NAMES = "cpu, cuda, cuda:N, another accelerator of torch by its name (mps, xpu), or auto (cuda where there is one)"
WITHOUT_FLOAT64 = frozenset({"mps"})
TRIED = frozenset({"cpu", "cuda"})  # types that are used without a warning


def known_device(name: torch.device | str) -> torch.device:
    """The device with a name that torch knows, whether there is one or not.

    Raises:
        ConfigError: torch knows no such device.
    """
    try:
        return torch.device(name)
    except RuntimeError:
        raise ConfigError(f"There is no device '{name}'.", f"Use {NAMES}.") from None


def pick_device(name: str) -> torch.device:
    """The device with a name, one of :data:`NAMES`.

    ``auto`` is the first CUDA GPU or, without one, the CPU; another accelerator is used only if it is named.

    Raises:
        ConfigError: There is no such device.
    """
    name = str(name) if isinstance(name, torch.device) else name
    if not isinstance(name, str):
        raise ConfigError(f"There is no device {name!r}.", f"Use {NAMES}.")
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = known_device(name)
    if device.type == "cpu":
        if device.index:
            raise ConfigError(f"The device '{name}' is not supported: the CPU is one device.", "Use cpu.")
        return device
    count = _count(device.type)
    if (device.index or 0) >= count:
        raise ConfigError(
            f"The device '{name}' is not there: torch sees {count} {device.type.upper()} devices.",
            "Use --device auto or cpu, or install a torch build for your accelerator.",
        )
    if device.type not in TRIED:
        warnings.warn(f"rltrain is untested on '{device.type}' devices: nobody has run it on one.", stacklevel=2)
    return device


def _count(kind: str) -> int:
    """How many devices of a type torch can use."""
    if kind == "cuda":
        return torch.cuda.device_count()
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return torch.accelerator.device_count() if accelerator is not None and accelerator.type == kind else 0


def statistics_dtype(device: torch.device | str) -> torch.dtype:
    """The type of running statistics and long sums: float64, or float32 on mps, which has no float64."""
    return torch.float32 if torch.device(device).type in WITHOUT_FLOAT64 else torch.float64


def memory_in_use(device: torch.device) -> dict[str, float]:
    """GiB of memory in use by tag: of this process, and of the device, where torch says so without waiting for it."""
    memory = {"system/memory_gib": _process(os.getpid()).memory_info().rss / 2**30}
    if device.type in ("cuda", "xpu"):
        memory["system/device_memory_gib"] = torch.get_device_module(device).memory_allocated(device) / 2**30
    return memory


_process = cache(psutil.Process)
"""The process of an id; to look it up costs as much as to ask it."""


def answers_late(device: torch.device) -> bool:
    """Whether the device queues its kernels, so that reading a number makes the host wait for all of them."""
    return device.type not in ("cpu", "meta")


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor_name() -> str:
    """What the processor calls itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def processor_of(device: torch.device) -> str:
    """What the last bits of results depend on: the instructions of a CPU that torch uses, such as AVX2; the GPU."""
    if device.type == "cpu":
        return torch.backends.cpu.get_cpu_capability()
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
