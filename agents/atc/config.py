"""The hyperparameters of augmented temporal contrast."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from rltrain.agents.parts.settings import ActorKwargs, Widths
from rltrain.config import Activation, AgentConfig
from rltrain.schedules import Schedule


class ATCKwargs(ActorKwargs):
    """The network, by default that of PPO's policy, which can start from it."""

    net_arch: Widths | None = None
    """Hidden layer widths; none for [64, 64], or for no such layers behind the convolutions of pictures."""
    activation_fn: Activation = "tanh"
    """Activation between the hidden layers."""


class ATCConfig(AgentConfig):
    """Hyperparameters of augmented temporal contrast."""

    learning_rate: Schedule = 1e-3
    """Step size of Adam: a number, or lin_X to fall linearly from X to 0."""
    batch_size: Annotated[int, Field(ge=2)] = 256
    """Pairs of observations in a minibatch; each is told apart from all others."""
    gradient_steps: Annotated[int, Field(ge=1)] = 16
    """Minibatches in an update."""
    steps_ahead: Annotated[int, Field(ge=1)] = 3
    """Steps between the two observations of a pair."""
    latent_size: Annotated[int, Field(ge=1)] = 128
    """Numbers in the code that observations are compared by; it is not part of the policy."""
    tau: Annotated[float, Field(gt=0.0, le=1.0)] = 0.01
    """Share of the network that goes into the target network with every minibatch."""
    random_shift: Annotated[int, Field(ge=0, le=64)] = 0
    """Pixels by which pictures are moved at random in both directions, each by itself; 4 in the paper; 0 for none."""
    max_grad_norm: Annotated[float, Field(gt=0.0)] | None = 10.0
    """Largest norm of the gradient; none for no limit."""
    normalize_obs: bool = False
    """Scale observations by their mean and deviation in the dataset."""
    val_fraction: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1
    """Share of the episodes that is held out for the linear probe; 0 for no probe."""
    val_by: str | None = None
    """Group column of the dataset whose values are not divided between the two."""
    val_freq: Annotated[int, Field(ge=1)] = 10
    """Updates between two probes."""
    probe_gamma: Annotated[float, Field(ge=0.0, le=1.0)] = 0.99
    """Discount factor of the return that the probe predicts."""
    policy_kwargs: ATCKwargs = ATCKwargs()
