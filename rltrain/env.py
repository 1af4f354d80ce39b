"""The interface that an author of an environment implements: a few batched functions on tensors."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from numbers import Integral
from typing import Any, ClassVar, Generic, TypeAlias, TypeVar

import gymnasium
import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.errors import ConfigError, did_you_mean

Observation: TypeAlias = Tensor | dict[str, Tensor]
EnvClass: TypeAlias = "type[TensorEnv[Any]] | type[gymnasium.Env[Any, Any]]"
S = TypeVar("S")


class Constants:
    """Constants by name, as attributes."""

    def __init__(self, values: dict[str, Tensor]) -> None:
        self._values = values

    def __getattr__(self, name: str) -> Tensor:
        return self._values[name]


class TensorEnv(ABC, Generic[S]):
    """A batch of independent environments, as pure functions of their state.

    ``S`` is a dataclass whose fields are tensors of shape ``(N, ...)``. The functions never change a
    state in place, use fixed shapes, and draw only from ``rng``, so that one definition serves every
    batch size and every device. Time limits, automatic resets, episode statistics and seeding are the business of
    :class:`rltrain.vec.TensorVecEnv`, so an author cannot get them wrong.

    Attributes:
        observation_space: Space of a single environment's observation.
        action_space: Space of a single environment's action.
        max_episode_steps: Steps after which an episode is truncated; None for no limit.
        reward_threshold: Mean episode return at which the task counts as solved, if there is one.
        reset_interval: Steps between two draws of start states, one for each row, which rows take when their episodes
            end. With 1 every start is new. More saves time; a row may then repeat a start if its episodes are shorter
            than the interval.
        device: Device of every tensor.
        dtype: Floating-point type of states, observations and rewards.
    """

    observation_space: spaces.Space
    action_space: spaces.Space
    max_episode_steps: ClassVar[int | None] = None
    reward_threshold: ClassVar[float | None] = None
    reset_interval: ClassVar[int] = 1
    render_fps: ClassVar[int] = 30

    def __init__(self, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> None:
        self.device = torch.device(device)
        self.dtype = dtype
        self._constants: dict[str, Tensor] = {}  # by name; (2,) where drawn for every episode

    @abstractmethod
    def reset(self, n: int, rng: torch.Generator | None) -> S:
        """``n`` start states. ``rng`` None means torch's default generator."""

    @abstractmethod
    def step(self, state: S, action: Tensor, rng: torch.Generator | None) -> tuple[S, Tensor, Tensor]:
        """One step of every environment.

        Args:
            state: States, each field (N, ...).
            action: (N, *A), inside the action space.
            rng: Source of random numbers; None means torch's default generator.

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
        """Optional: named tensors (N,), with the same names in every step, read before a reset."""
        return {}

    def render(self, state: S, index: int = 0) -> Tensor:
        """Optional: a picture (H, W, 3) uint8, on the CPU, of environment ``index``."""
        raise ConfigError(
            f"{type(self).__name__} cannot be drawn.", "Give it a render(state, index) method that returns a picture."
        )

    def baseline(self, state: S) -> Tensor:
        """Optional: the actions (N, *A) of a classical policy, to compare trained agents with."""
        raise ConfigError(
            f"{type(self).__name__} has no baseline policy.", "Give it a baseline(state) method that returns actions."
        )

    @property
    def has_action_mask(self) -> bool:
        """Whether the author wrote :meth:`action_mask`."""
        return type(self).action_mask is not TensorEnv.action_mask

    @property
    def full_observation_space(self) -> spaces.Space:
        """Space of what agents see: the observation, with the action mask beside it where there is one."""
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
            raise ConfigError(
                f"{type(self).__name__}.observe returned a {type(observation).__name__} beside an action mask.",
                "It owes one tensor (N, *O) there.",
            )
        return {"observation": observation, "action_mask": self.action_mask(state)}

    def constant(
        self,
        name: str,
        value: float | Sequence[float],
        *,
        above: float | None = None,
        at_least: float | None = None,
        at_most: float | None = None,
        per_episode: bool = False,
    ) -> Tensor:
        """A validated constructor argument as a 0-d tensor on the environment's device.

        It is a tensor so that a curriculum can change it without compiling again.

        Args:
            name: The argument's name.
            value: Its value; with ``per_episode`` also ``[low, high]``, from which every episode draws its own.
            above: What it must be greater than.
            at_least: What it must not be less than.
            at_most: What it must not be greater than.
            per_episode: Whether a range is allowed; see :meth:`draw_constants`.

        Returns:
            0-d, or (2,) for a range.

        Raises:
            ConfigError: The value is outside the given bounds, not a number, or not finite.
        """
        where = f"{type(self).__name__}: {name}={value!r}"
        is_range = isinstance(value, Sequence) and not isinstance(value, str)
        bounds: list[Any] = list(value) if is_range else [value]  # type: ignore[arg-type]
        if is_range and not (per_episode and len(bounds) == 2):
            what = "a number, or [low, high] to draw it for every episode" if per_episode else "a number"
            raise ConfigError(f"{where} is not {what}.", f"Give {what}.")
        try:
            numbers = [float(str(bound) if isinstance(bound, bool) else bound) for bound in bounds]  # true is not 1
        except (TypeError, ValueError):
            raise ConfigError(f"{where} is not a number.", "Give a number.") from None
        for number in numbers:
            if not math.isfinite(number):
                raise ConfigError(f"{where} is not finite.", "Give a finite number.")
            if above is not None and number <= above:
                raise ConfigError(f"{where} is out of range.", f"It must be above {above:g}.")
            if at_least is not None and number < at_least:
                raise ConfigError(f"{where} is out of range.", f"It must be at least {at_least:g}.")
            if at_most is not None and number > at_most:
                raise ConfigError(f"{where} is out of range.", f"It must be at most {at_most:g}.")
        if numbers != sorted(numbers):
            raise ConfigError(f"{where} is not a range.", "Give the lower end first.")
        tensor = torch.tensor(numbers if is_range else numbers[0], device=self.device, dtype=self.dtype)
        self._constants[name] = tensor
        return tensor

    def draw_constants(self, n: int, rng: torch.Generator | None) -> Tensor:
        """Values of the K constants given as ranges, uniform for each of ``n`` episodes: (n, K); K may be 0.

        For domain randomisation: keep them in the state and pass them to :meth:`constants_of`. Draws nothing from
        ``rng`` where no constant is a range.
        """
        ranges = [constant for constant in self._constants.values() if constant.dim()]
        if not ranges:
            return torch.empty(n, 0, device=self.device, dtype=self.dtype)
        low, high = torch.stack(ranges).unbind(1)
        return low + (high - low) * torch.rand(n, len(ranges), generator=rng, device=self.device, dtype=self.dtype)

    def constants_of(self, drawn: Tensor) -> Constants:
        """All constants by name: 0-d tensors, or (N,) columns of ``drawn`` (N, K) for those drawn in every episode."""
        columns = iter(drawn.unbind(-1) if drawn.shape[-1] else ())
        values = {name: next(columns) if constant.dim() else constant for name, constant in self._constants.items()}
        return Constants(values)

    def whole(self, name: str, value: int, *, at_least: int | None = None, at_most: int | None = None) -> int:
        """A validated constructor argument that is a whole number, such as a size.

        Raises:
            ConfigError: It is not whole, or out of range.
        """
        where = f"{type(self).__name__}: {name}={value!r}"
        if not isinstance(value, Integral) or isinstance(value, bool):
            raise ConfigError(f"{where} is not a whole number.", "Give a whole number.")
        if at_least is not None and value < at_least:
            raise ConfigError(f"{where} is out of range.", f"It must be at least {at_least}.")
        if at_most is not None and value > at_most:
            raise ConfigError(f"{where} is out of range.", f"It must be at most {at_most}.")
        return int(value)

    def choice(self, name: str, value: Any, options: Sequence[Any]) -> Any:
        """A validated constructor argument that is one of a few, such as a name, or true or false.

        Raises:
            ConfigError: It is none of them.
        """
        if any(value is option or (type(value) is type(option) and value == option) for option in options):
            return value
        listed = ", ".join(str(option) for option in options)
        fix = f"It must be one of: {listed}."
        raise ConfigError(
            f"{type(self).__name__}: {name}={value!r} is not known.",
            did_you_mean(value, [str(o) for o in options], fix) if isinstance(value, str) else fix,
        )
