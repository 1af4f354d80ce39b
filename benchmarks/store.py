"""Keeps measured figures in small JSON files under ``benchmarks/results``, with the machine beside them."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any

import torch

from rltrain.devices import processor_name

RESULTS = Path(__file__).parent / "results"


def load(name: str) -> dict[str, Any]:
    """The figures kept under a name; empty if there are none."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def save(name: str, figures: dict[str, Any]) -> Path:
    """Keeps figures, in place of older ones of that name."""
    path = RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(figures, indent=1) + "\n")
    return path


def machine() -> dict[str, Any]:
    """The machine and versions that figures depend on."""
    return {
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__.partition("+")[0],
    }


def bare(env_id: str) -> str:
    """An id without its namespace, as a file name."""
    return env_id.rpartition("/")[2]
