"""The vectorised environment that agents train in, and its implementation for tensor environments."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral
from typing import Any, Generic, NamedTuple, Protocol

import torch
from gymnasium import spaces
from torch import Tensor
from typing_extensions import TypeVar

from rltrain.compile import can_lower, fused, recorded
from rltrain.compiling import is_compiling
from rltrain.env import Observation, TensorEnv
from rltrain.env_checks.owed import check_env, check_observation, check_outcome, check_spaces, check_state
from rltrain.env_checks.schedule import check_numbers, in_full, is_due
from rltrain.errors import ConfigError
from rltrain.rng import derive_seed, generator_state, make_generator, set_generator_state
from rltrain.traced import Traced
from rltrain.tree import from_dict, to_dict, tree_where

S = TypeVar("S")
O_co = TypeVar("O_co", covariant=True, default=Observation)  # Tensor or dict[str, Tensor], if it is known which

SUCCESS = "is_success"
"""The key of ``info`` that says whether an episode was a success."""


ACHIEVED, DESIRED = "achieved_goal", "desired_goal"
"""The entries of observations that say what a goal environment has reached, and what it should."""


class Goals(NamedTuple):
    """The rewards of a goal environment for goals that were not those asked for."""

    reward: Callable[[Tensor, Tensor], Tensor]
    """From what was achieved after a step and the goal, (B, *G) each, to the reward (B,)."""
    terminated: Callable[[Tensor, Tensor], Tensor] | None
    """From the same to whether the episode would have ended by that, (B,) bool; None if goals end none."""


class VecStep(NamedTuple, Generic[O_co]):
    """The outcome of one step of N environments: every field in every step, in fixed shapes, on the device.

    Valid until the next call of ``step``. Where an episode ended, the environment has already been reset.
    """

    obs: O_co  # (N, *O) the first observation of the next episode where one ended
    reward: Tensor  # (N,) float32
    terminated: Tensor  # (N,) bool, the episode ended by itself
    truncated: Tensor  # (N,) bool, the episode was cut off by the time limit; never where terminated
    final_obs: O_co  # (N, *O) observation that the action led to, before any reset
    episode_return: Tensor  # (N,) float32 sum of rewards so far; the episode's where one ended
    episode_length: Tensor  # (N,) int64 steps so far; the episode's where one ended
    info: dict[str, Tensor]  # (N,) each, read before the reset


class VecEnv(Protocol[O_co]):
    """N environments stepped together, their data on one device, reset in the step that ends an episode.

    ``VecEnv[Tensor]`` and ``VecEnv[dict[str, Tensor]]`` tell type checkers which kind of observation it has.
    """

    num_envs: int
    device: torch.device
    single_observation_space: spaces.Space
    single_action_space: spaces.Space
    exact_resume: bool  # whether state_dict() is enough to continue bit for bit

    def reset(self, seed: int) -> O_co:
        """Starts every environment anew and returns the first observations (N, *O)."""
        ...

    def step(self, action: Tensor) -> VecStep[O_co]:
        """Steps every environment with ``action`` (N, *A)."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything with memory, as a nested dict of tensors."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where :meth:`state_dict` was taken."""

    def close(self) -> None:
        """Releases what the environments hold: processes, files, windows."""

    def render(self, index: int = 0) -> Any:
        """A picture (H, W, 3) uint8 of environment ``index``, if the environments were made to be drawn."""

    @property
    def render_fps(self) -> float:
        """Pictures per second."""
        ...


def own_spaces(vec: VecEnv) -> tuple[spaces.Space, spaces.Space]:
    """The spaces of an observation and an action before an adapter converts them to tensors.

    An adapter has them as ``own_spaces``; without an adapter they are the ``single_*_space`` of the vector environment.
    """
    return getattr(vec, "own_spaces", (vec.single_observation_space, vec.single_action_space))


def check_counts(num_envs: int, max_episode_steps: int | None) -> None:
    """Checks the numbers of a vector environment.

    Raises:
        ConfigError: One of them is below 1, or not whole.
    """
    check_count("num_envs", num_envs)
    if max_episode_steps is not None:
        check_count("max_episode_steps", max_episode_steps)


def check_count(name: str, value: Any, at_least: int = 1) -> None:
    """Checks that an argument is a whole number of at least ``at_least``, and below 2**63, where torch's end.

    Raises:
        ConfigError: It is not.
    """
    if not isinstance(value, Integral) or isinstance(value, bool) or not at_least <= int(value) < 2**63:
        fix = f"It must be a whole number of at least {at_least}, and below 2**63."
        raise ConfigError(f"{name}={value!r} is out of range.", fix)


def goals_of(vec: VecEnv) -> Goals:
    """The rewards of a goal environment: one with the entries :data:`ACHIEVED` and :data:`DESIRED` in its observations.

    Its own ``compute_reward(achieved_goal, desired_goal)`` says them, and ``compute_terminated`` if goals end episodes.

    Raises:
        ConfigError: It is no goal environment.
    """
    entries = getattr(vec.single_observation_space, "spaces", {})
    names = [name for name in (ACHIEVED, DESIRED) if name not in entries]
    reward = getattr(vec, "compute_reward", None)
    if not isinstance(vec.single_observation_space, spaces.Dict) or names or reward is None:
        lack = f"an entry '{names[0]}' in its observations" if names else "a method compute_reward"
        raise ConfigError(f"n_sampled_goal is for goal environments, and this one lacks {lack}.", "Leave it out.")
    return Goals(reward, getattr(vec, "compute_terminated", None))


class TensorVecEnv(Generic[S]):
    """N copies of a :class:`~rltrain.env.TensorEnv`, with time limits, autoreset and episode statistics.

    Args:
        env: The environment.
        num_envs: N, at least 1.
        max_episode_steps: Time limit in steps; the environment's own when None.
        autoreset: False leaves a finished environment as it is, to be drawn; it must be reset by hand.

    Raises:
        ConfigError: ``num_envs`` or ``max_episode_steps`` is below 1, or the environment has no spaces.
    """

    exact_resume = True

    def __init__(
        self, env: TensorEnv[S], num_envs: int, *, max_episode_steps: int | None = None, autoreset: bool = True
    ) -> None:
        limit = env.max_episode_steps if max_episode_steps is None else max_episode_steps
        check_counts(num_envs, limit)
        check_spaces(env)
        self.env = env
        self.autoreset = autoreset
        self.num_envs = num_envs
        self.device = env.device
        self.max_episode_steps = limit
        self.single_observation_space = env.full_observation_space
        self.single_action_space = env.action_space
        self._never = torch.zeros(num_envs, dtype=torch.bool, device=self.device)
        self._rng: torch.Generator | None = None
        self._state: S | None = None
        self._start_obs: Observation | None = None
        self._compiled: Callable[..., Any] | None = None
        self._steps = 0  # since the last reset
        self._in_full = in_full()

    @property
    def compute_reward(self) -> Callable[[Tensor, Tensor], Tensor] | None:
        """The rewards of a goal environment, see :func:`goals_of`; None for others."""
        return getattr(self.env, "compute_reward", None)

    @property
    def compute_terminated(self) -> Callable[[Tensor, Tensor], Tensor] | None:
        """Whether goals end episodes; None if the environment does not say."""
        return getattr(self.env, "compute_terminated", None)

    @property
    def state(self) -> S:
        """The current states.

        Raises:
            RuntimeError: ``reset`` has not been called.
        """
        if self._state is None:
            raise RuntimeError("call reset(seed) first")
        return self._state

    @torch.no_grad()
    def reset(self, seed: int | None) -> Observation:
        """Starts every environment anew and returns the first observations (N, *O).

        ``seed`` None draws from torch's default generator.
        """
        self._rng = None if seed is None else make_generator(self.device, derive_seed(seed, "env"))
        self._state = self.env.reset(self.num_envs, self._rng)
        check_state(self.env, self._state, self.num_envs)
        self._return = torch.zeros(self.num_envs, dtype=torch.float32, device=self.device)
        self._length = torch.zeros(self.num_envs, dtype=torch.int64, device=self.device)
        self._checked, self._steps = False, 0
        obs = self.env.full_observe(self._state)
        check_observation(self.env, obs, self.num_envs)
        self._draw_starts()
        return obs

    def check(self) -> None:
        """Resets and steps two environments apart from these, and checks what the author's functions return.

        Raises:
            ConfigError: One of them does not return what it owes, or fails.
        """
        check_env(self.env)

    def compile(self, **options: Any) -> None:
        """Compiles a step, except the drawing of starts; on a GPU it is one CUDA graph, see ``rltrain.compile``.

        ``torch.compile`` supports torch's default generator alone, so random numbers of the environment's own step come
        from there. The first step after a reset runs uncompiled, so that an author's mistakes are reported.

        Args:
            **options: Options of ``torch.compile``, such as ``backend``.
        """
        if not options and can_lower(self.device):
            self._compiled = Traced(self._advance, self.env)
        else:
            self._compiled = recorded(fused(self._advance, device=self.device, **options), self.device)

    @torch.no_grad()
    def step(self, action: Tensor) -> VecStep:
        """Steps every environment with ``action`` (N, *A); finished ones are reset in the same step."""
        self._steps += 1
        advance = self._compiled if self._compiled and self._checked and not self._in_full else self._advance
        outcome, self._state, self._return, self._length = advance(
            self.state, self._return, self._length, self._starts, self._start_obs, action
        )
        self._checked = True
        self._age += 1
        if self._age == self.env.reset_interval:
            self._draw_starts()
        return outcome

    def _fits(self, following: Any) -> bool:
        """Whether a step gave what it owes, as far as a look at one shape in every step can tell."""
        return (
            isinstance(following, tuple)
            and len(following) == 3
            and getattr(following[1], "shape", None) == self._never.shape
        )

    def _is_due(self) -> bool:
        """Whether the current step is one of those whose shapes are checked."""
        return self._in_full or is_due(self._steps)

    def _advance(
        self,
        before: S,
        episode_return: Tensor,
        length: Tensor,
        starts: S,
        start_obs: Observation | None,
        action: Tensor,
    ) -> tuple[VecStep, S, Tensor, Tensor]:
        """A step without the drawing of starts: its outcome, and the next states, returns and lengths."""
        following = self._next(before, action)
        if not is_compiling() and (self._is_due() or not self._fits(following)):
            check_outcome(self.env, before, following)
        state, reward, terminated = following
        reward = reward.to(torch.float32)
        length = length + 1
        episode_return = episode_return + reward
        if self.max_episode_steps is None:
            truncated, done = self._never, terminated
        else:
            done = terminated | (length >= self.max_episode_steps)
            truncated = done ^ terminated
        final_obs = self.env.full_observe(state)
        info = self.env.info(state)
        if not is_compiling() and self._is_due():
            check_observation(self.env, final_obs, self.num_envs)
            if self._in_full:
                check_numbers(self.env, final_obs, reward, terminated, self._steps)

        # Every row has a start, used where its episode ended: shapes stay fixed, the host never waits, and the start
        # of row i does not depend on the other rows.
        if not self.autoreset:
            after, obs = state, final_obs
        else:
            after = tree_where(done, starts, state)
            obs = self.env.full_observe(after) if start_obs is None else tree_where(done, start_obs, final_obs)
        outcome = VecStep(obs, reward, terminated, truncated, final_obs, episode_return, length, info)
        return outcome, after, episode_return.masked_fill(done, 0.0), length.masked_fill(done, 0)

    def _next(self, before: S, action: Tensor) -> tuple[S, Tensor, Tensor]:
        """The author's step: the next state, the reward, and whether the episode is over."""
        return self.env.step(before, action, None if self._compiled is not None else self._rng)

    def _draw_starts(self) -> None:
        """Draws the start state that each row takes when its episode ends; see :attr:`TensorEnv.reset_interval`."""
        self._keep(self.env.reset(self.num_envs, self._rng), age=0)

    def _keep(self, starts: S, age: int) -> None:
        """Stores starts drawn ``age`` steps ago, with their observations if more than one step uses them."""
        self._starts, self._age = starts, age
        if self.env.reset_interval > 1:
            self._start_obs = self.env.full_observe(starts)

    @property
    def render_fps(self) -> float:
        """Pictures per second."""
        return self.env.render_fps

    def render(self, index: int = 0) -> Tensor:
        """A picture (H, W, 3) uint8 of environment ``index``."""
        return self.env.render(self.state, index)

    def state_dict(self) -> dict[str, Any]:
        """States, episode statistics and the generator: all that is needed to continue bit for bit."""
        return {
            "state": to_dict(self.state),
            "starts": to_dict(self._starts),
            "age": torch.tensor(self._age),
            "return": self._return,
            "length": self._length,
            "rng": generator_state(self._rng),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where :meth:`state_dict` was taken.

        Raises:
            ValueError: The saved state has other fields or shapes.
        """
        self.reset(seed=0)  # makes the tensors whose shapes the saved ones must have
        self._checked = self._compiled is not None  # the next step is not the first after a reset, so it runs compiled
        self._state = from_dict(self.state, state["state"])
        self._keep(from_dict(self._starts, state["starts"]), age=int(state["age"]))
        self._return = from_dict(self._return, state["return"])
        self._length = from_dict(self._length, state["length"])
        set_generator_state(self._rng, state["rng"])

    def close(self) -> None:
        """Does nothing: there is nothing to release."""
