"""The hyperparameters of the Decision Transformer."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from rltrain.agents.parts.settings import NetworkKwargs
from rltrain.config import AgentConfig
from rltrain.schedules import Schedule


class DTKwargs(NetworkKwargs):
    """The transformer, in the words of its paper."""

    hidden_size: Annotated[int, Field(ge=1, le=4096)] = 64
    """Numbers of a token."""
    n_layer: Annotated[int, Field(ge=1, le=64)] = 3
    """Blocks of attention."""
    n_head: Annotated[int, Field(ge=1, le=64)] = 1
    """Heads of attention, which divide hidden_size."""
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1
    """Chance that a number is left out while learning."""
    max_ep_len: Annotated[int, Field(ge=1, le=2**20)] = 1000
    """Steps that are told apart; later ones count as the last."""
    log_std_init: float = 0.0
    """Initial logarithm of the standard deviation of Box actions."""


class DTConfig(AgentConfig):
    """Hyperparameters of the Decision Transformer."""

    learning_rate: Schedule = 5e-4
    """Step size of Adam: a number, or lin_X to fall linearly from X to 0."""
    weight_decay: Annotated[float, Field(ge=0.0)] = 1e-4
    """Decoupled weight decay, as of AdamW: each step takes this share of the step size off the weights."""
    max_grad_norm: Annotated[float, Field(gt=0.0)] | None = 0.25
    """Largest norm of the gradient; none for no limit."""
    context: Annotated[int, Field(ge=1, le=1024)] = 20
    """Steps that it looks back at, the present one included."""
    batch_size: Annotated[int, Field(ge=1)] = 64
    """Pieces of episodes in a minibatch, of as many steps each."""
    gradient_steps: Annotated[int, Field(ge=1)] = 4
    """Minibatches in an update."""
    target_return: float | None = None
    """Return of an episode that it is asked for when it acts; none for the largest in the data."""
    return_coef: Annotated[float, Field(ge=0.0)] = 0.1
    """Weight of predicting the return to go after each action, from which it goes on where no reward is seen."""
    policy_kwargs: DTKwargs = DTKwargs()
