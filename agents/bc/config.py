"""The hyperparameters of behavioural cloning."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from rltrain.agents.parts.settings import ActorKwargs, Widths
from rltrain.config import Activation, AgentConfig
from rltrain.schedules import Schedule

Part = Annotated[float, Field(ge=0.0, lt=1.0)]


class BCKwargs(ActorKwargs):
    """The network, by default that of PPO's policy, which can start from it."""

    net_arch: Widths | None = None
    """Hidden layer widths; none for [64, 64], or for no such layers behind the convolutions of pictures."""
    activation_fn: Activation = "tanh"
    """Activation between the hidden layers."""


class BCConfig(AgentConfig):
    """Hyperparameters of behavioural cloning."""

    learning_rate: Schedule = 1e-3
    """Step size of Adam: a number, or lin_X to fall linearly from X to 0."""
    batch_size: Annotated[int, Field(ge=1)] = 256
    """Steps of the dataset in a minibatch."""
    gradient_steps: Annotated[int, Field(ge=1)] = 16
    """Minibatches in an update."""
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.0
    """Decoupled weight decay, as of AdamW: each step takes this share of the step size off the weights."""
    dropout: Part = 0.0
    """Chance that an output of a hidden layer is left out while learning."""
    label_smoothing: Part = 0.0
    """Share of the target that goes to all allowed choices alike; not for Box actions."""
    max_grad_norm: Annotated[float, Field(gt=0.0)] | None = None
    """Largest norm of the gradient; none for no limit."""
    normalize_obs: bool = False
    """Scale observations by their mean and deviation in the dataset."""
    val_fraction: Part = 0.1
    """Share of the episodes that is held out for the validation loss; 0 for none."""
    val_by: str | None = None
    """Group column of the dataset whose values are not divided between the two."""
    val_freq: Annotated[int, Field(ge=1)] = 10
    """Updates between two validations."""
    patience: Annotated[int, Field(ge=0)] = 0
    """Validations without a lower loss after which training stops; the best policy is then the one that is kept. 0 to
    train to the end and keep the last."""
    dp_epsilon: Annotated[float, Field(gt=0.0)] | None = None
    """Learn with differential privacy, and stop before this budget is exceeded; none to learn without."""
    dp_delta: Annotated[float, Field(gt=0.0, lt=1.0)] = 1e-5
    """Chance that the promise of dp_epsilon does not hold; well below one divided by the number of units."""
    dp_by: str | None = None
    """Group column of the dataset whose values, such as people, are protected; none to protect single episodes."""
    dp_units: Annotated[int, Field(ge=1)] = 16
    """Units that take part in a minibatch, on average; each with batch_size / dp_units of its steps."""
    dp_noise: Annotated[float, Field(gt=0.0)] = 1.0
    """Standard deviation of the noise on gradients, as a multiple of dp_clip."""
    dp_clip: Annotated[float, Field(gt=0.0)] = 1.0
    """Norm that the gradient of each unit is cut to."""
    policy_kwargs: BCKwargs = BCKwargs()
