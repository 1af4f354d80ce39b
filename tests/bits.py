"""What a run ends with, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

import rltrain
from rltrain.runs.checkpoint import load_policy, load_training
from rltrain.runs.layout import list_checkpoints
from rltrain.runs.verify import find_fault


def final_bits(algo: str, env: Any, folder: Path, **options: Any) -> dict[str, bytes]:
    """Policy, optimizer, environments and generators at the end of a run, by path; no statistics for the log."""
    run = rltrain.train(algo, env, run_dir=folder, **{"progress": False, **options}).run_dir
    last = list_checkpoints(run / "checkpoints")[-1]
    assert find_fault(last) is None
    training = load_training(last)
    bits: dict[str, bytes] = {}

    def collect(tree: Any, path: str) -> None:
        if isinstance(tree, dict):
            for key, value in tree.items():
                collect(value, f"{path}/{key}")
        else:
            bits[path] = tree.numpy().tobytes() if isinstance(tree, Tensor) else repr(tree).encode()

    collect({name: training[name] for name in ("agent", "env", "obs", "generators", "modules")}, "training")
    collect(load_policy(last), "policy")
    return bits
