"""Reinforcement learning whose environments live on the device of the policy.

Importing this registers every environment of rltrain and of its plugins with Gymnasium. It does not
import torch: the names below are loaded when they are first used.
"""

from __future__ import annotations

import rltrain.process.early  # noqa: F401  # isort: skip  # before anything that takes time

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from rltrain.moved import install as _keep_old_paths_importable
from rltrain.registry import discover

if TYPE_CHECKING:
    from rltrain.agent import Actor, ActOut, Agent
    from rltrain.callbacks import Callback, Episodes, Training
    from rltrain.check.conformance import check_env, check_vec_env
    from rltrain.config import AgentConfig, TrainConfig
    from rltrain.env import Observation, TensorEnv
    from rltrain.errors import CheckpointError, ConfigError, RLTrainError, RunError
    from rltrain.evaluation.episodes import Evaluation
    from rltrain.make import make_env, make_vec
    from rltrain.plugins import register_exporter, register_importer, register_tracker, register_verb
    from rltrain.registry import register_agent, register_env
    from rltrain.runs.evaluate import evaluate
    from rltrain.runs.policy import Policy, load
    from rltrain.tracker import RunInfo, Tracker
    from rltrain.training.callbacks import (
        EvaluateOn,
        KeepBest,
        SaveEvery,
        StopAfter,
        StopAtThreshold,
        StopOnPlateau,
    )
    from rltrain.training.launch import resume, train
    from rltrain.training.multi_seed import train_seeds
    from rltrain.training.resume_seeds import resume_seeds
    from rltrain.training.session import RunResult
    from rltrain.vec import TensorVecEnv, VecEnv, VecStep

__version__ = version("rltrain")

__all__ = [
    "ActOut",
    "Actor",
    "Agent",
    "AgentConfig",
    "Callback",
    "CheckpointError",
    "ConfigError",
    "Episodes",
    "EvaluateOn",
    "Evaluation",
    "KeepBest",
    "Observation",
    "Policy",
    "RLTrainError",
    "RunError",
    "RunInfo",
    "RunResult",
    "SaveEvery",
    "StopAfter",
    "StopAtThreshold",
    "StopOnPlateau",
    "TensorEnv",
    "TensorVecEnv",
    "Tracker",
    "TrainConfig",
    "Training",
    "VecEnv",
    "VecStep",
    "__version__",
    "check_env",
    "check_vec_env",
    "evaluate",
    "load",
    "make_env",
    "make_vec",
    "register_agent",
    "register_env",
    "register_exporter",
    "register_importer",
    "register_tracker",
    "register_verb",
    "resume",
    "resume_seeds",
    "train",
    "train_seeds",
]

if not TYPE_CHECKING:  # type checkers read the imports above, so that a name which does not exist is an error to them
    _HOMES = {
        "ActOut": "rltrain.agent",
        "Actor": "rltrain.agent",
        "Agent": "rltrain.agent",
        "AgentConfig": "rltrain.config",
        "Callback": "rltrain.callbacks",
        "CheckpointError": "rltrain.errors",
        "ConfigError": "rltrain.errors",
        "Episodes": "rltrain.callbacks",
        "EvaluateOn": "rltrain.training.callbacks",
        "Evaluation": "rltrain.evaluation.episodes",
        "KeepBest": "rltrain.training.callbacks",
        "Observation": "rltrain.env",
        "Policy": "rltrain.runs.policy",
        "RLTrainError": "rltrain.errors",
        "RunError": "rltrain.errors",
        "RunInfo": "rltrain.tracker",
        "RunResult": "rltrain.training.session",
        "SaveEvery": "rltrain.training.callbacks",
        "StopAfter": "rltrain.training.callbacks",
        "StopAtThreshold": "rltrain.training.callbacks",
        "StopOnPlateau": "rltrain.training.callbacks",
        "TensorEnv": "rltrain.env",
        "TensorVecEnv": "rltrain.vec",
        "Tracker": "rltrain.tracker",
        "TrainConfig": "rltrain.config",
        "Training": "rltrain.callbacks",
        "VecEnv": "rltrain.vec",
        "VecStep": "rltrain.vec",
        "check_env": "rltrain.check.conformance",
        "check_vec_env": "rltrain.check.conformance",
        "evaluate": "rltrain.runs.evaluate",
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
        "resume_seeds": "rltrain.training.resume_seeds",
        "train": "rltrain.training.launch",
        "train_seeds": "rltrain.training.multi_seed",
    }

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module 'rltrain' has no attribute '{name}'")
        return getattr(import_module(_HOMES[name]), name)

    def __dir__() -> list[str]:
        return __all__


_keep_old_paths_importable()
discover()
