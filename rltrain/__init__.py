"""Reinforcement learning whose environments live on the device of the policy.

Importing this registers every environment of rltrain and of its plugins with Gymnasium. It does not
import torch: the names below are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from rltrain.moved import install as _keep_old_paths_importable
from rltrain.registry import discover

if TYPE_CHECKING:
    from rltrain.agent import Actor as Actor
    from rltrain.agent import ActOut as ActOut
    from rltrain.agent import Agent as Agent
    from rltrain.callbacks import Callback as Callback
    from rltrain.check.conformance import check_env as check_env
    from rltrain.check.conformance import check_vec_env as check_vec_env
    from rltrain.config import AgentConfig as AgentConfig
    from rltrain.env import TensorEnv as TensorEnv
    from rltrain.evaluation.episodes import Evaluation as Evaluation
    from rltrain.make import make_env as make_env
    from rltrain.make import make_vec as make_vec
    from rltrain.plugins import register_exporter as register_exporter
    from rltrain.plugins import register_importer as register_importer
    from rltrain.plugins import register_tracker as register_tracker
    from rltrain.plugins import register_verb as register_verb
    from rltrain.registry import register_agent as register_agent
    from rltrain.registry import register_env as register_env
    from rltrain.runs.policy import Policy as Policy
    from rltrain.runs.policy import evaluate as evaluate
    from rltrain.runs.policy import load as load
    from rltrain.tracker import RunInfo as RunInfo
    from rltrain.tracker import Tracker as Tracker
    from rltrain.training.launch import resume as resume
    from rltrain.training.launch import train as train
    from rltrain.training.multi_seed import train_seeds as train_seeds
    from rltrain.training.session import RunResult as RunResult
    from rltrain.vec import VecStep as VecStep

__version__ = version("rltrain")

_HOMES = {
    "ActOut": "rltrain.agent",
    "Actor": "rltrain.agent",
    "Agent": "rltrain.agent",
    "AgentConfig": "rltrain.config",
    "Callback": "rltrain.callbacks",
    "Evaluation": "rltrain.evaluation.episodes",
    "Policy": "rltrain.runs.policy",
    "RunResult": "rltrain.training.session",
    "RunInfo": "rltrain.tracker",
    "TensorEnv": "rltrain.env",
    "Tracker": "rltrain.tracker",
    "VecStep": "rltrain.vec",
    "check_env": "rltrain.check.conformance",
    "check_vec_env": "rltrain.check.conformance",
    "evaluate": "rltrain.runs.policy",
    "load": "rltrain.runs.policy",
    "make_env": "rltrain.make",
    "make_vec": "rltrain.make",
    "register_agent": "rltrain.registry",
    "register_env": "rltrain.registry",
    "register_exporter": "rltrain.plugins",
    "register_importer": "rltrain.plugins",
    "register_tracker": "rltrain.plugins",
    "register_verb": "rltrain.plugins",
    "resume": "rltrain.training.launch",
    "train": "rltrain.training.launch",
    "train_seeds": "rltrain.training.multi_seed",
}
__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'rltrain' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__


_keep_old_paths_importable()
discover()
