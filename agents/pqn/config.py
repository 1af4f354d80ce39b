"""PQN's hyperparameters: named as PPO's and DQN's where they mean the same; defaults of the paper's MinAtar runs."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, field_validator

from rltrain.agents.parts.settings import RecurrentQNetworkKwargs, Share
from rltrain.config import AgentConfig, DividedAmongRanks
from rltrain.schedules import Schedule


class PQNConfig(AgentConfig):
    """Hyperparameters of PQN."""

    learning_rate: Schedule = "lin_5e-4"
    """Step size of Adam: a number, or lin_X to fall linearly from X to 0."""
    n_steps: Annotated[int, Field(ge=1)] = 32
    """Steps of each environment between two updates."""
    batch_size: Annotated[int, Field(ge=1), DividedAmongRanks] = 128
    """Transitions in a minibatch, over all ranks."""
    n_epochs: Annotated[int, Field(ge=1)] = 2
    """Passes over the rollout in an update."""
    gamma: Share = 0.99
    """Discount factor."""
    q_lambda: Share = 0.65
    """Trade-off of bias against variance in the targets: 0 for one step, 1 for the whole rollout."""
    exploration_fraction: Share = 0.1
    """Share of training over which the chance of a random action falls."""
    exploration_initial_eps: Share = 1.0
    """Chance of a random action at the start."""
    exploration_final_eps: Share = 0.05
    """Chance of a random action in the end."""
    max_grad_norm: Annotated[float, Field(gt=0.0)] = 10.0
    """Largest norm of the gradient."""
    normalize_obs: bool = False
    """Scale observations by their running mean and deviation."""
    policy_kwargs: RecurrentQNetworkKwargs = RecurrentQNetworkKwargs(net_arch=[128], layer_norm=True)

    # Settings that a mapping leaves out keep PQN's defaults, not those of other agents.
    @field_validator("policy_kwargs", mode="before")
    @classmethod
    def _normalised_unless_told(cls, value: Any) -> Any:
        return {"net_arch": [128], "layer_norm": True, **value} if isinstance(value, dict) else value
