"""Reinforcement learning whose environments live on the device of the policy.

Importing this registers every environment of rltrain and of its plugins with Gymnasium. It does not
import torch: the names below are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from rltrain.registry import discover

if TYPE_CHECKING:
    from rltrain.env import TensorEnv as TensorEnv
    from rltrain.evaluation import Evaluation as Evaluation
    from rltrain.launch import RunResult as RunResult
    from rltrain.launch import resume as resume
    from rltrain.launch import train as train
    from rltrain.policy import Policy as Policy
    from rltrain.policy import load as load
    from rltrain.registry import make_vec as make_vec
    from rltrain.registry import register_agent as register_agent
    from rltrain.registry import register_env as register_env
    from rltrain.vec import VecStep as VecStep

__version__ = version("rltrain")

_HOMES = {
    "Evaluation": "rltrain.evaluation",
    "Policy": "rltrain.policy",
    "RunResult": "rltrain.launch",
    "TensorEnv": "rltrain.env",
    "VecStep": "rltrain.vec",
    "load": "rltrain.policy",
    "make_vec": "rltrain.registry",
    "register_agent": "rltrain.registry",
    "register_env": "rltrain.registry",
    "resume": "rltrain.launch",
    "train": "rltrain.launch",
}
__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'rltrain' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__


discover()
