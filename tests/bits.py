"""What a run ends with, bit for bit."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from torch import Tensor

import rltrain
from rltrain.runs.checkpoint import load_policy, load_training
from rltrain.runs.layout import list_checkpoints
from rltrain.runs.verify import find_fault

TIMING = re.compile(
    r"(trainer\.latest\.)?(time/(fps|time_elapsed|resumed|\w+_seconds)$|system/)|trainer\.(seconds|pauses|health|cost)"
)
"""Tags, and parts of the training state, that depend on the clock, the machine, and when a run was resumed: a stop adds
a log point, which the diagnoses of its health remember."""


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Leaves by path."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        leaves |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return leaves


def as_bits(training: dict[str, Any]) -> dict[str, Any]:
    """The leaves of the training state in a checkpoint by path, but for the time it took; tensors as bytes."""
    return {
        name: (leaf.dtype, leaf.shape, leaf.numpy().tobytes()) if isinstance(leaf, Tensor) else leaf
        for name, leaf in flat(training).items()
        if not TIMING.match(name)
    }


def last_state(run: Path, rank: int = 0) -> dict[str, Any]:
    """Everything in the last checkpoint of a run but the time it took: tensors as bytes."""
    path = list_checkpoints(run / "checkpoints")[-1]
    assert find_fault(path) is None, find_fault(path)
    parts = {"policy": load_policy(path), "training": load_training(path, rank)}
    return {f"{part}.{name}": leaf for part, tree in parts.items() for name, leaf in as_bits(tree).items()}


def final_bits(algo: str, env: Any, folder: Path, **options: Any) -> dict[str, bytes]:
    """Policy, optimizer, environments and generators at the end of a run, by path; no statistics for the log."""
    run = rltrain.train(algo, env, run_dir=folder, **{"progress": False, **options}).run_dir
    last = list_checkpoints(run / "checkpoints")[-1]
    assert find_fault(last) is None
    training = load_training(last)
    kept = {name: training[name] for name in ("agent", "env", "obs", "generators", "modules")}
    return {
        name: leaf.numpy().tobytes() if isinstance(leaf, Tensor) else repr(leaf).encode()
        for name, leaf in flat({"training": kept, "policy": load_policy(last)}).items()
    }
