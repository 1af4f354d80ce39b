"""DQN's hyperparameters: Stable-Baselines3's names, defaults and meanings; what it has not is off by default."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from rltrain.agents.parts.settings import QNetworkKwargs, Share
from rltrain.config import AgentConfig
from rltrain.schedules import Schedule


class DQNConfig(AgentConfig):
    """Hyperparameters of DQN."""

    learning_rate: Schedule = 1e-4
    """Step size of Adam: a number, or lin_X to fall linearly from X to 0."""
    buffer_size: Annotated[int, Field(ge=1)] = 1_000_000
    """Transitions to remember, over all environments."""
    learning_starts: Annotated[int, Field(ge=0)] = 100
    """Environment steps of random actions before learning starts."""
    batch_size: Annotated[int, Field(ge=1)] = 32
    """Transitions in a minibatch."""
    tau: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Share of the network that goes into the target network when that is updated."""
    gamma: Share = 0.99
    """Discount factor."""
    train_freq: Annotated[int, Field(ge=1)] = 4
    """Steps of each environment between two updates."""
    gradient_steps: Annotated[int, Field(ge=-1)] = 1
    """Minibatches in an update; -1 for as many as environment steps were taken."""
    target_update_interval: Annotated[int, Field(ge=1)] = 10_000
    """Environment steps between two updates of the target network."""
    exploration_fraction: Share = 0.1
    """Share of training over which the chance of a random action falls."""
    exploration_initial_eps: Share = 1.0
    """Chance of a random action at the start."""
    exploration_final_eps: Share = 0.05
    """Chance of a random action in the end."""
    max_grad_norm: Annotated[float, Field(gt=0.0)] = 10.0
    """Largest norm of the gradient."""
    n_steps: Annotated[int, Field(ge=1)] = 1
    """Steps whose rewards are summed up before the value of what follows is estimated."""
    double_q: bool = False
    """Choose the next action by the network and value it by the target network."""
    dueling: bool = False
    """Add up action values from the value of the state and advantages of the actions."""
    prioritized_replay: bool = False
    """Draw transitions in proportion to a power of their error."""
    priority_alpha: Share = 0.6
    """That power; 0 draws uniformly."""
    priority_beta: Share = 0.4
    """How far weights undo it at the start; fully in the end."""
    distributional: bool = False
    """Learn quantiles of the return instead of its mean."""
    n_quantiles: Annotated[int, Field(ge=2)] = 50
    """How many quantiles, where distributional."""
    noisy: bool = False
    """Explore by learned noise on the weights; random actions come on top."""
    save_replay_buffer: bool = True
    """Keep the transitions in checkpoints, as an exact resume needs; without, a resume collects new ones first."""
    policy_kwargs: QNetworkKwargs = QNetworkKwargs()

    @field_validator("gradient_steps")
    @classmethod
    def _some(cls, value: int) -> int:
        if value == 0:
            raise ValueError("it must be at least 1, or -1")
        return value
