"""A registry with a version whose policy says a number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import rltrain
from rltrain.model_registry.store import Registry


def scripted_run(folder: Path, level: float = 2.0, *, env: str = "test/Pay-v0", **options: Any) -> Path:
    """A run whose policy says ``level``, which is half of its return."""
    common: dict[str, Any] = {"total_timesteps": 8, "num_envs": 2, "n_eval_episodes": 2, "agent": {"plan": [level]}}
    return rltrain.train("scripted", env, progress=False, run_dir=str(folder), **{**common, **options}).run_dir


def registry_with(folder: Path, run: Path, **options: Any) -> Registry:
    """A registry ``pay`` with the run as version 1."""
    registry = Registry(folder, "pay")
    registry.register(run, **options)
    return registry


FULL = """---
license: mit
---
# Pay

## Intended use

To be tested.

## Out-of-scope use

Everything else.

## Limits

It says one number.

## Thanks

To nobody.
"""
