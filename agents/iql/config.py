"""The hyperparameters of implicit Q-learning, with the defaults of its authors' code for locomotion."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from rltrain.agents.parts.settings import ActorKwargs, OfflineConfig, Widths
from rltrain.config import Activation, Model


class NetArch(Model):
    """Widths of the hidden layers of the two kinds of networks."""

    pi: Widths
    """Hidden layers of the policy."""
    qf: Widths
    """Hidden layers of each critic, and of the value."""


class IQLKwargs(ActorKwargs):
    """The networks."""

    net_arch: NetArch = NetArch(pi=[256, 256], qf=[256, 256])
    """Hidden layer widths: [256, 256] for policy and critics, or {pi: [256, 256], qf: [256, 256]}."""
    activation_fn: Activation = "relu"
    """Activation between the hidden layers."""
    n_critics: Annotated[int, Field(ge=1)] = 2
    """Critics, of whose estimates the lowest counts."""
    layer_norm: bool = False
    """Normalise every layer of the critics and of the value before its activation."""

    @field_validator("net_arch", mode="before")
    @classmethod
    def _one_list_for_both(cls, value: Any) -> Any:
        return {"pi": value, "qf": value} if isinstance(value, list | tuple) else value


class IQLConfig(OfflineConfig):
    """Hyperparameters of implicit Q-learning."""

    advantage: Literal["expectile", "policy"] = "expectile"
    """What an action is compared with: expectile for a value network of its own (IQL), policy for the value of the
    policy's own actions (AWAC)."""
    expectile: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.7
    """Which expectile of the values of the actions in the data the value network learns; 0.5 is their mean, near 1
    their maximum."""
    beta: Annotated[float, Field(ge=0.0)] = 3.0
    """Inverse temperature: actions weigh exp(beta * advantage) in the policy's loss; 0 is cloning."""
    max_weight: Annotated[float, Field(gt=0.0)] = 100.0
    """Largest of those weights."""
    policy_kwargs: IQLKwargs = IQLKwargs()
