"""What the trainer knows of an agent: it acts, it records, and every ``horizon`` steps it learns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Protocol, TypeAlias

import torch
from gymnasium import spaces
from torch import Tensor, nn

from rltrain.compile import fused, recorded
from rltrain.env import Observation
from rltrain.errors import ConfigError
from rltrain.vec import VecStep

Metrics: TypeAlias = dict[str, Tensor | float]
"""By TensorBoard tag: 0-d tensors on the device, and numbers that the host knows anyway."""


class ActOut(NamedTuple):
    """An agent's answer to a batch of observations."""

    action: Tensor  # (N, *A), inside the action space
    state: Tensor | None = None  # recurrent state for the next step


def identity(tensor: Tensor) -> Tensor:
    """The mean over one rank."""
    return tensor


class StackedAgent(Protocol):
    """K agents as one. ``act`` and ``record`` are those of an :class:`Agent` with K * N environments, seed by seed."""

    progress_remaining: float

    def act(self, obs: Observation, state: Tensor | None = None) -> ActOut:
        """Actions (K * N, *A) to explore with."""

    def record(self, out: ActOut, step: VecStep) -> None:
        """Adds the outcome of the last ``act``."""

    def learn_each(self) -> list[Metrics]:
        """Improves the policies; the metrics of each."""


class Agent(nn.Module, ABC):
    """A learner. Its module state (``state_dict``) is what a policy needs to act.

    The trainer calls ``act``, steps the environment, calls ``record``, and after ``horizon`` such steps
    ``learn``. None of them waits for the device.

    Args:
        observation_space: Space of a single observation.
        action_space: Space of a single action.
        num_envs: N, on this rank.
        config: Hyperparameters, an instance of the agent's own config class; of sizes, this rank's share.
        device: Where everything lives.
        seed: Of everything random in the agent.

    Attributes:
        horizon: Environment steps between two calls of ``learn``.
        log_interval: Updates between two log points, unless the run says otherwise.
        progress_remaining: Share of training still ahead, 1 to 0, set by the trainer before each
            iteration; schedules are functions of it, so they survive a resume.
        reduce: Mean of a tensor over all ranks; the identity unless a distributed runtime sets it. What the ranks
            do between two calls is the same, so that all of them call it, with tensors of the same shape.
        ranks: How many there are.
        compiled_methods: Methods that :meth:`compile` passes to ``torch.compile``: functions of tensors that draw no
            random numbers.
        graph_methods: Methods captured as CUDA graphs on a GPU, by whether their results must outlive the next call;
            see :class:`rltrain.compile.Recorded`.
    """

    compiled_methods: ClassVar[tuple[str, ...]] = ()
    graph_methods: ClassVar[dict[str, bool]] = {}
    horizon: int
    log_interval: int = 1
    exact_resume = True  # whether module state and training_state() hold all there is to continue bit for bit

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        num_envs: int,
        config: Any,
        *,
        device: torch.device | str = "cpu",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.observation_space = observation_space
        self.action_space = action_space
        self.num_envs = num_envs
        self.config = config
        self.device = torch.device(device)
        self.seed = seed
        self.progress_remaining = 1.0
        self.reduce: Callable[[Tensor], Tensor] = identity
        self.ranks = 1
        self.compiled = False

    def compile(self, *args: Any, **options: Any) -> None:
        """Has ``torch.compile`` make acting and learning of fewer kernels; on a GPU they become CUDA graphs.

        Args:
            *args: For ``torch.compile``, as are the options.
            **options: Such as ``backend``.

        Raises:
            ConfigError: The agent has no methods to compile.
        """
        if not self.compiled_methods:
            raise ConfigError(f"{type(self).__name__} has nothing to compile.", "Leave --compile out.")
        for name in self.compiled_methods:
            setattr(self, name, fused(getattr(self, name), *args, **options))
        if self.reduce is identity:  # what ranks tell each other is in no recording
            for name, fresh in self.graph_methods.items():
                setattr(self, name, recorded(getattr(self, name), self.device, fresh=fresh))
        self.compiled = True

    def use_bfloat16(self) -> None:
        """Lets networks multiply in bfloat16.

        Raises:
            ConfigError: The agent does not know how to.
        """
        raise ConfigError(f"{type(self).__name__} has no networks in bfloat16.", "Leave --bfloat16 out.")

    def scalar(self, value: float) -> float | Tensor:
        """A number that changes, as compiled methods may be given it: 0-d on the device once they are compiled."""
        return torch.full((), value, device=self.device) if self.compiled else value

    def check(self) -> None:
        """Warns of hyperparameters that fit together badly; called once before a run."""

    def memory(self) -> int:
        """Bytes of the experience that it will keep; what cannot fit is refused before a run."""
        return 0

    def initial_state(self, n: int) -> Tensor | None:
        """The recurrent state at the start of an episode; None for agents without memory."""
        return None

    @abstractmethod
    def act(self, obs: Observation, state: Tensor | None = None) -> ActOut:
        """Actions to explore with, for training. Keeps what learning needs of ``obs`` (N, *O)."""

    @abstractmethod
    def record(self, out: ActOut, step: VecStep) -> None:
        """Adds the outcome of the last ``act``."""

    @abstractmethod
    def learn(self) -> Metrics:
        """Improves the policy; returns metrics, always under the same tags once there are any."""

    @abstractmethod
    def predict(
        self,
        obs: Observation,
        state: Tensor | None = None,
        *,
        deterministic: bool = True,
        rng: torch.Generator | None = None,
    ) -> ActOut:
        """Actions for ``obs`` (N, *O) without a trace: training is not touched.

        Args:
            obs: Observations.
            state: Recurrent state.
            deterministic: The most likely action rather than a sample.
            rng: Source of chance for samples; None means torch's default generator.
        """

    @abstractmethod
    def training_state(self) -> dict[str, Any]:
        """What ``learn`` needs beside the module state: optimizer, generators, counters."""

    @abstractmethod
    def load_training_state(self, state: dict[str, Any]) -> None:
        """Puts back what :meth:`training_state` gave."""
