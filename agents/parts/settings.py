"""Settings shared by several agents: for networks, and for learning from a replay."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from rltrain.config import Activation, AgentConfig, CountedOverRanks, CustomClass, DividedAmongRanks, Model
from rltrain.schedules import Schedule

Widths = list[Annotated[int, Field(ge=1)]]
Share = Annotated[float, Field(ge=0.0, le=1.0)]


class NetworkKwargs(Model):
    """What every network of an agent is told."""

    features_extractor_class: Literal["auto", "flatten"] | CustomClass = "auto"
    """What images go through: auto for convolutions, flatten for none; from Python also an encoder of your own."""
    features_extractor_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Arguments of an encoder of your own."""
    activation_fn: Activation = "relu"
    """Activation between the hidden layers."""

    @field_validator("features_extractor_class", mode="before")
    @classmethod
    def _as_in_sb3(cls, value: Any) -> Any:
        return "flatten" if value == "FlattenExtractor" else value

    @field_validator("activation_fn", mode="before")
    @classmethod
    def _as_in_torch(cls, value: Any) -> Any:
        """Accepts ``nn.ReLU``, as RL Zoo writes it, and the class itself, as Stable-Baselines3 takes it."""
        name = value.__name__ if isinstance(value, type) else str(value).rpartition("nn.")[2]
        torch_names = {"tanh": "tanh", "relu": "relu", "silu": "silu", "elu": "elu", "gelu": "gelu"}
        return {**torch_names, "leakyrelu": "leaky_relu"}.get(name.lower(), value)


class ActorKwargs(NetworkKwargs):
    """What a network of a policy that learns from data is told."""

    log_std_init: float = 0.0
    """Initial logarithm of the standard deviation of Box actions."""
    squash_output: bool = False
    """Squash Box actions into their bounds by tanh, instead of clipping them; SAC can then start from the policy."""


class QNetworkKwargs(NetworkKwargs):
    """The network of action values."""

    net_arch: Widths | None = None
    """Hidden layer widths; none for [64, 64], or for no such layers behind the convolutions of pictures."""
    layer_norm: bool = False
    """Normalise every layer before its activation."""


class MemoryKwargs(Model):
    """The memory of a network, for agents that learn from sequences."""

    memory: Literal["gru", "mingru", "lstm"] | None = None
    """Recurrent layer behind the encoder, which remembers the episode: gru, mingru or lstm; none for no memory."""
    memory_size: Annotated[int, Field(ge=1)] = 128
    """Numbers that it remembers."""


class RecurrentQNetworkKwargs(QNetworkKwargs, MemoryKwargs):
    """The network of action values, where it may have memory."""


class OffPolicyConfig(AgentConfig):
    """Hyperparameters of every agent that learns from a replay, with the defaults of Stable-Baselines3's base class."""

    learning_rate: Schedule = 3e-4
    """Step size of Adam: a number, or lin_X to fall linearly from X to 0."""
    buffer_size: Annotated[int, Field(ge=1), CountedOverRanks] = 1_000_000
    """Transitions to remember, over all environments."""
    learning_starts: Annotated[int, Field(ge=0), CountedOverRanks] = 100
    """Environment steps of random actions before learning starts."""
    batch_size: Annotated[int, Field(ge=1), DividedAmongRanks] = 256
    """Transitions in a minibatch, over all ranks."""
    tau: Annotated[float, Field(gt=0.0, le=1.0)] = 0.005
    """Share of the network that goes into the target network when that is updated."""
    gamma: Share = 0.99
    """Discount factor."""
    train_freq: Annotated[int, Field(ge=1)] = 1
    """Steps of each environment between two updates."""
    gradient_steps: Annotated[int, Field(ge=-1)] = 1
    """Minibatches in an update; -1 for as many as environment steps were taken."""
    n_steps: Annotated[int, Field(ge=1)] = 1
    """Steps whose rewards are summed up before the value of what follows is estimated."""
    n_sampled_goal: Annotated[int, Field(ge=0)] = 0
    """Goals reached later in the episode that a transition of a goal environment is learned with, for each one that was
    asked for (hindsight experience replay); 0 for none, 4 in the paper."""
    offline_fraction: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Share of each minibatch that comes from the dataset that --data names, and not from the replay: half of it in
    RLPD (Ball et al. 2023, arXiv:2302.02948); 0 for none."""
    save_replay_buffer: bool = True
    """Keep the transitions in checkpoints, as an exact resume needs; without, a resume collects new ones first."""

    @field_validator("gradient_steps")
    @classmethod
    def _some(cls, value: int) -> int:
        if value == 0:
            raise ValueError("it must be at least 1, or -1")
        return value


class PrioritizedConfig(OffPolicyConfig):
    """The same where transitions may be drawn by priority (Schaul et al. 2016, arXiv:1511.05952)."""

    prioritized_replay: bool = False
    """Draw transitions in proportion to a power of their error."""
    priority_alpha: Share = 0.6
    """That power; 0 draws uniformly."""
    priority_beta: Share = 0.4
    """How far weights undo it at the start; fully in the end."""


class OfflineConfig(AgentConfig):
    """Hyperparameters of every agent that learns values from a dataset."""

    learning_rate: Schedule = 3e-4
    """Step size of Adam: a number, or lin_X to fall linearly from X to 0."""
    batch_size: Annotated[int, Field(ge=1)] = 256
    """Steps of the dataset in a minibatch."""
    gradient_steps: Annotated[int, Field(ge=1)] = 16
    """Minibatches in an update."""
    gamma: Share = 0.99
    """Discount factor."""
    n_steps: Annotated[int, Field(ge=1)] = 1
    """Steps whose rewards are summed up before the value of what follows is estimated."""
    tau: Annotated[float, Field(gt=0.0, le=1.0)] = 0.005
    """Share of the network that goes into the target network with every minibatch."""
    reward_scale: Annotated[float, Field(gt=0.0)] = 1.0
    """What rewards are multiplied by; the size of values decides what temperatures and penalties mean."""
    normalize_obs: bool = False
    """Scale observations by their mean and deviation in the dataset."""
    max_grad_norm: Annotated[float, Field(gt=0.0)] | None = None
    """Largest norm of the gradient of each network; none for no limit."""
