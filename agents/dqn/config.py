"""DQN's hyperparameters: Stable-Baselines3's names, defaults and meanings; additions to it are off by default."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from rltrain.agents.parts.settings import PrioritizedConfig, QNetworkKwargs, Share
from rltrain.config import CountedOverRanks, DividedAmongRanks
from rltrain.schedules import Schedule


class DQNConfig(PrioritizedConfig):
    """Hyperparameters of DQN."""

    learning_rate: Schedule = 1e-4
    """Step size of Adam: a number, or lin_X to fall linearly from X to 0."""
    batch_size: Annotated[int, Field(ge=1), DividedAmongRanks] = 32
    """Transitions in a minibatch, over all ranks."""
    tau: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Share of the network that goes into the target network when that is updated."""
    train_freq: Annotated[int, Field(ge=1)] = 4
    """Steps of each environment between two updates."""
    target_update_interval: Annotated[int, Field(ge=1), CountedOverRanks] = 10_000
    """Environment steps between two updates of the target network."""
    exploration_fraction: Share = 0.1
    """Share of training over which the chance of a random action falls."""
    exploration_initial_eps: Share = 1.0
    """Chance of a random action at the start."""
    exploration_final_eps: Share = 0.05
    """Chance of a random action in the end."""
    max_grad_norm: Annotated[float, Field(gt=0.0)] = 10.0
    """Largest norm of the gradient."""
    double_q: bool = False
    """Choose the next action by the network and value it by the target network."""
    dueling: bool = False
    """Add up action values from the value of the state and advantages of the actions."""
    distributional: bool = False
    """Learn quantiles of the return instead of its mean."""
    n_quantiles: Annotated[int, Field(ge=2)] = 50
    """How many quantiles, where distributional."""
    noisy: bool = False
    """Explore by learned noise on the weights; random actions come on top."""
    policy_kwargs: QNetworkKwargs = QNetworkKwargs()
