"""PPO's hyperparameters: Stable-Baselines3's names, defaults and meanings."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, field_validator

from rltrain.agents.parts.settings import MemoryKwargs, NetworkKwargs, Widths
from rltrain.config import Activation, AgentConfig, CustomClass, DividedAmongRanks, Model
from rltrain.schedules import Schedule


class NetArch(Model):
    """Widths of the hidden layers of the two networks."""

    pi: Widths
    """Hidden layers of the policy."""
    vf: Widths
    """Hidden layers of the value function."""


class PolicyKwargs(NetworkKwargs, MemoryKwargs):
    """The networks."""

    net_arch: NetArch | None = None
    """Hidden layer widths: [64, 64] for both networks, or {pi: [64, 64], vf: [64, 64]}; none for [64, 64], or for no
    such layers behind the convolutions of pictures."""
    network_class: CustomClass | None = None
    """From Python: a network of your own, in place of encoder, layers and heads."""
    network_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Arguments of a network of your own."""
    activation_fn: Activation = "tanh"
    """Activation between the hidden layers."""
    ortho_init: bool = True
    """Orthogonal initial weights."""
    log_std_init: float = 0.0
    """Initial logarithm of the standard deviation of Box actions."""
    squash_output: bool = False
    """Squash Box actions into their bounds by tanh, instead of clipping them."""

    @field_validator("net_arch", mode="before")
    @classmethod
    def _one_list_for_both(cls, value: Any) -> Any:
        return {"pi": value, "vf": value} if isinstance(value, list | tuple) else value


class PPOConfig(AgentConfig):
    """Hyperparameters of PPO."""

    learning_rate: Schedule = 3e-4
    """Step size of Adam: a number, or lin_X to fall linearly from X to 0."""
    n_steps: Annotated[int, Field(ge=1)] = 2048
    """Steps of each environment between two updates."""
    batch_size: Annotated[int, Field(ge=1), DividedAmongRanks] = 64
    """Transitions in a minibatch, over all ranks."""
    n_epochs: Annotated[int, Field(ge=1)] = 10
    """Passes over the rollout in an update."""
    gamma: Annotated[float, Field(ge=0.0, le=1.0)] = 0.99
    """Discount factor."""
    gae_lambda: Annotated[float, Field(ge=0.0, le=1.0)] = 0.95
    """Trade-off of bias against variance in the advantage estimate."""
    clip_range: Schedule = 0.2
    """How far the probability ratio may leave 1 before its gradient is cut; a number or a schedule."""
    clip_range_vf: Schedule | None = None
    """The same for the change of the value; none for no clipping."""
    normalize_advantage: bool = True
    """Scale advantages to mean 0 and deviation 1 in each minibatch."""
    ent_coef: Annotated[float, Field(ge=0.0)] = 0.0
    """Weight of the entropy bonus."""
    vf_coef: Annotated[float, Field(ge=0.0)] = 0.5
    """Weight of the value loss."""
    max_grad_norm: Annotated[float, Field(gt=0.0)] = 0.5
    """Largest norm of the gradient."""
    target_kl: Annotated[float, Field(gt=0.0)] | None = None
    """Stop an update when the policy has moved 1.5 times this far; none for no limit."""
    value_warmup: Annotated[int, Field(ge=0)] = 0
    """Updates at the start that change the value alone, so that a policy from --init-from is not spoiled by a fresh
    critic; 0 for none."""
    normalize_obs: bool = False
    """Scale observations by their running mean and deviation."""
    normalize_reward: bool = False
    """Scale rewards by the running deviation of the discounted return."""
    policy_kwargs: PolicyKwargs = PolicyKwargs()
