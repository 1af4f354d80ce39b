"""What is known of a registered environment or agent: a few strings and numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

CONFIGS = "rltrain.configs"
"""The package with our own settings."""


@dataclass(frozen=True)
class EnvSpec:
    """A registered environment.

    Attributes:
        id: ``namespace/Name-vN``.
        entry_point: ``module:Class`` of a :class:`~rltrain.env.TensorEnv`, or the class itself.
        description: One line for ``rltrain envs``.
        group: What ``rltrain envs`` lists it under; its namespace unless given.
        max_episode_steps: Time limit in steps.
        reward_threshold: Mean episode return at which the task counts as solved.
        kwargs: Constructor arguments of this id.
        configs: Package whose ``<agent>/<environment>.yaml`` are settings for it, such as ``your_package.configs``.
        vectorizer: ``module:name`` of what makes a :class:`~rltrain.vec.VecEnv` of N of them from this spec, N and
            keywords; empty for a :class:`~rltrain.env.TensorEnv`.
        batched: Whether N of them are stepped as arrays, so that hundreds cost little more than one.
        parameters: What may be given to its constructor, with defaults; None where that is for ``entry_point`` to say.
    """

    id: str
    entry_point: str | type
    description: str = ""
    group: str = ""
    max_episode_steps: int | None = None
    reward_threshold: float | None = None
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    configs: str = CONFIGS
    vectorizer: str = ""
    batched: bool = True
    parameters: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class AgentSpec:
    """A registered agent.

    Attributes:
        name: What is typed after ``rltrain train``.
        entry_point: ``module:Class`` of an :class:`~rltrain.agent.Agent`, or the class itself.
        config: ``module:Class`` of its :class:`~rltrain.config.AgentConfig`, or the class itself.
        description: One line for ``rltrain agents``.
        configs: Package whose ``<agent>/<environment>.yaml`` are settings for it, such as ``your_package.configs``.
        trainer: ``module:Class`` of what runs it, where that is not :class:`rltrain.trainer.Trainer`.
    """

    name: str
    entry_point: str | type
    config: str | type
    description: str = ""
    configs: str = CONFIGS
    trainer: str = "rltrain.trainer:Trainer"
