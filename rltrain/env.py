"""What an author of an environment writes: a few batched functions on tensors."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar, Generic, TypeAlias, TypeVar

import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.errors import ConfigError

Observation: TypeAlias = Tensor | dict[str, Tensor]
S = TypeVar("S")


class TensorEnv(ABC, Generic[S]):
    """A batch of independent environments, as pure functions of their state.

    ``S`` is a dataclass whose fields are tensors of shape ``(N, ...)``. The functions never change a
    state in place, use fixed shapes, and draw only from ``rng``, so that one definition serves every
    batch size and every device. Time limits, automatic resets, episode statistics and seeding belong to
    :class:`rltrain.vec.TensorVecEnv`: an author cannot get them wrong.

    Attributes:
        observation_space: Space of a single environment's observation.
        action_space: Space of a single environment's action.
        max_episode_steps: Steps after which an episode is truncated; None for no limit.
        reward_threshold: Mean episode return at which the task counts as solved, if there is one.
        device: Device of every tensor.
        dtype: Floating-point type of states, observations and rewards.
    """

    observation_space: spaces.Space
    action_space: spaces.Space
    max_episode_steps: ClassVar[int | None] = None
    reward_threshold: ClassVar[float | None] = None
    render_fps: ClassVar[int] = 30

    def __init__(self, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> None:
        self.device = torch.device(device)
        self.dtype = dtype

    @abstractmethod
    def reset(self, n: int, rng: torch.Generator | None) -> S:
        """``n`` start states. ``rng`` None means torch's default generator."""

    @abstractmethod
    def step(self, state: S, action: Tensor, rng: torch.Generator | None) -> tuple[S, Tensor, Tensor]:
        """One step of every environment.

        Args:
            state: States, each field (N, ...).
            action: (N, *A), inside the action space.
            rng: Source of chance.

        Returns:
            The next state, the reward (N,) and ``terminated`` (N,) bool.
        """

    @abstractmethod
    def observe(self, state: S) -> Observation:
        """Observations (N, *O), or a flat dict of them, of the given states."""

    def action_mask(self, state: S) -> Tensor:
        """Optional: (N, n_actions) bool, true where a discrete action is allowed."""
        raise NotImplementedError(f"{type(self).__name__} has no action mask")

    def info(self, state: S) -> dict[str, Tensor]:
        """Optional: named (N,) tensors, always under the same names, read before a reset."""
        return {}

    def render(self, state: S, index: int = 0) -> Tensor:
        """Optional: a picture (H, W, 3) uint8, on the CPU, of environment ``index``."""
        raise ConfigError(
            f"{type(self).__name__} cannot be drawn.", "Give it a render(state, index) method that returns a picture."
        )

    @property
    def has_action_mask(self) -> bool:
        """Whether the author wrote :meth:`action_mask`."""
        return type(self).action_mask is not TensorEnv.action_mask

    @property
    def full_observation_space(self) -> spaces.Space:
        """What agents see: the observation, with the action mask beside it where there is one."""
        if not self.has_action_mask:
            return self.observation_space
        if not isinstance(self.action_space, spaces.Discrete):
            raise ConfigError(
                f"{type(self).__name__} has an action mask and the action space {self.action_space}.",
                "Action masks need a Discrete action space.",
            )
        mask = spaces.MultiBinary(int(self.action_space.n))
        return spaces.Dict({"observation": self.observation_space, "action_mask": mask})

    def full_observe(self, state: S) -> Observation:
        """The observation as in :attr:`full_observation_space`."""
        observation = self.observe(state)
        if not self.has_action_mask:
            return observation
        if not isinstance(observation, Tensor):
            raise TypeError(f"{type(self).__name__}.observe must return a tensor beside an action mask")
        return {"observation": observation, "action_mask": self.action_mask(state)}

    def constant(
        self,
        name: str,
        value: float,
        *,
        above: float | None = None,
        at_least: float | None = None,
        at_most: float | None = None,
    ) -> Tensor:
        """A validated constructor argument as a 0-d tensor on the environment's device.

        A tensor rather than a Python number, so that a curriculum can change it without a recompile.

        Raises:
            ConfigError: The value is outside the given bounds, not a number, or not finite.
        """
        where = f"{type(self).__name__}: {name}={value!r}"
        try:
            number = float(str(value) if isinstance(value, bool) else value)  # true is not 1
        except (TypeError, ValueError):
            raise ConfigError(f"{where} is not a number.", "Give a number.") from None
        if not math.isfinite(number):
            raise ConfigError(f"{where} is not finite.", "Give a finite number.")
        if above is not None and number <= above:
            raise ConfigError(f"{where} is out of range.", f"It must be above {above:g}.")
        if at_least is not None and number < at_least:
            raise ConfigError(f"{where} is out of range.", f"It must be at least {at_least:g}.")
        if at_most is not None and number > at_most:
            raise ConfigError(f"{where} is out of range.", f"It must be at most {at_most:g}.")
        return torch.tensor(number, device=self.device, dtype=self.dtype)
