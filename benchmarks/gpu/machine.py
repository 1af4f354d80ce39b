"""What figures depend on beside the code: the card, its driver, the versions of all that was imported."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from typing import Any

import torch

from benchmarks import store
from benchmarks.gpu.setup import Setup


def describe(setup: Setup) -> dict[str, Any]:
    """The machine; nothing of a card where none is used."""
    found = {**store.machine(), "torch": str(torch.__version__), "jax": jax_version()}
    if setup.cuda:
        card = torch.cuda.get_device_properties(setup.device)
        found |= {
            "card": card.name,
            "memory_gib": round(card.total_memory / 2**30, 1),
            "cuda": torch.version.cuda,
            "driver": driver(),
        }
    return found


def jax_version() -> str | None:
    """The version of JAX, where it is installed."""
    try:
        return version("jax")
    except PackageNotFoundError:
        return None


def driver() -> str | None:
    """The version of the driver, where its tool is there to be asked."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.partition("\n")[0].strip()


def packages(setup: Setup) -> dict[str, Any]:
    """The packages that were imported so far, with their versions."""
    owners = packages_distributions()
    names = {owner for module in sys.modules for owner in owners.get(module.partition(".")[0], ())}
    return {"packages": {name: version(name) for name in sorted(names, key=str.lower)}}
