"""Vector environments of other libraries that step on the device themselves, in torch tensors: Isaac Lab's, mjlab's.

Two interfaces are understood, both of which reset a row in the step that ends its episode:

- Isaac Lab's and mjlab's: ``reset(seed=...)`` gives ``(obs, extras)``, and ``step(action)`` gives ``(obs, reward,
  terminated, time_outs, extras)``;
- rsl_rl's, which wrappers of both have: ``get_observations()``, and ``step(action)`` gives ``(obs, reward, done,
  extras)`` with ``extras["time_outs"]``.

Neither has ever been run here: the tests use environments that follow these interfaces on the CPU.
"""

from __future__ import annotations

import inspect
import reprlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.adapters.frames import picture_of
from rltrain.adapters.gymnasium_ids import named_errors
from rltrain.errors import ConfigError, RunError, did_you_mean
from rltrain.naming.reasons import fix_at, reason_of
from rltrain.plugins import resolve
from rltrain.registry import EnvSpec
from rltrain.rng import derive_seed
from rltrain.tree import tree_map, tree_where
from rltrain.vec import VecStep

ACTOR = ("policy", "actor")
"""The groups of observations that the acting policy sees; others, such as ``critic``, know more than a robot can."""
FINAL = ("final_obs", "final_observation", "terminal_observation", "terminal_observations")
"""Where extras may have the observation that an action led to, before the reset."""
INTEGERS = torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64


def vectorize(
    spec: EnvSpec,
    num_envs: int,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    max_episode_steps: int | None = None,
    render: bool = False,
    observations: str | None = None,
    **kwargs: Any,
) -> DeviceVecEnv:
    """N environments that a function makes: the ``vectorizer`` of an environment that is registered with one.

    Args:
        spec: Its registration. ``entry_point`` is called with ``num_envs``, ``device`` and the constructor arguments;
            with ``render_mode="rgb_array"`` too where it is to be drawn.
        num_envs: N.
        device: Device of the tensors.
        dtype: Floating-point type of observations; float32 unless given.
        max_episode_steps: Must be None: the simulator keeps its own time limit.
        render: Make an environment to be drawn.
        observations: The group of observations to learn from; ``policy`` or ``actor`` if there is one, else all.
        **kwargs: Constructor arguments.

    Raises:
        ConfigError: It cannot be made, or is not what it must be.
    """
    make: Callable[..., Any] = resolve(spec.entry_point)
    if max_episode_steps not in (None, spec.max_episode_steps):
        raise ConfigError(f"'{spec.id}' keeps its own time limit.", "Leave --env.max-episode-steps out.")
    if render:
        if "render_mode" not in inspect.signature(make).parameters:
            raise ConfigError(f"'{spec.id}' cannot be drawn: its function takes no render_mode.", "Give it one.")
        kwargs["render_mode"] = "rgb_array"
    with named_errors(spec.id):
        envs = make(num_envs=num_envs, device=str(device), **kwargs)
    try:
        return DeviceVecEnv(spec, envs, num_envs, torch.device(device), dtype or torch.float32, observations)
    except BaseException:
        _close(envs)
        raise


class DeviceVecEnv:
    """N environments stepped by another library in torch tensors, behind :class:`~rltrain.vec.VecEnv`.

    Where extras do not have it, ``final_obs`` of an episode that ends is the observation before its last step: these
    libraries show what follows the reset alone. A time limit is then bootstrapped from one step earlier, as rsl_rl
    does.

    Args:
        spec: Its registration.
        envs: The vector environment.
        num_envs: N.
        device: Device of the tensors.
        dtype: Floating-point type of observations.
        group: The group of observations to learn from; None to choose.

    Raises:
        ConfigError: It has other numbers or another device, or its observations are no tensors.
    """

    exact_resume = False

    def __init__(
        self, spec: EnvSpec, envs: Any, num_envs: int, device: torch.device, dtype: torch.dtype, group: str | None
    ) -> None:
        self.spec, self.num_envs, self.device = spec, num_envs, device
        self._envs, self._dtype, self._group = envs, dtype, group
        if not callable(getattr(envs, "step", None)):
            raise ConfigError(
                f"'{spec.id}' is made by a function that returns {reprlib.repr(envs)}.",
                "It must return a vector environment with reset and step; docs/environments.md has an example.",
            )
        if getattr(envs, "num_envs", num_envs) != num_envs:
            raise ConfigError(
                f"'{spec.id}' has {envs.num_envs} environments, and {num_envs} were asked for.",
                "Pass num_envs on in the function that makes it.",
            )
        limit = getattr(envs, "max_episode_length", None)
        self.max_episode_steps = int(limit) if isinstance(limit, int | float) else spec.max_episode_steps
        self.render_fps = float((getattr(envs, "metadata", None) or {}).get("render_fps") or 30)
        first = self._start(0)
        self.single_observation_space = _space_of(first)
        self.single_action_space = self._actions()
        self._obs: Any = first
        self._return = torch.zeros(num_envs, device=device)
        self._length = torch.zeros(num_envs, dtype=torch.int64, device=device)

    def reset(self, seed: int) -> Any:
        """Starts every environment anew and returns the first observations (N, *O)."""
        self._return.zero_()
        self._length.zero_()
        self._obs = self._start(derive_seed(seed, "env") % 2**31)
        return self._obs

    @torch.no_grad()
    def step(self, action: Tensor) -> VecStep:
        """Steps every environment with ``action`` (N, *A); finished ones are reset in the same step.

        Raises:
            RunError: The environment fails, or gives something else than its interface promises.
        """
        before = tree_map(torch.clone, self._obs)  # its memory may be written again
        try:
            outcome = self._envs.step(action)
        except Exception as error:
            raise RunError(f"'{self.spec.id}' failed in step: {reason_of(error)}.", fix_at(error)) from error
        obs, reward, terminated, truncated, extras = self._read(outcome)
        done = terminated | truncated
        given = next((extras[name] for name in FINAL if extras.get(name) is not None), None)
        final_obs = tree_where(done, before if given is None else self._seen(given), obs)
        returns, lengths = self._return + reward, self._length + 1
        self._return, self._length = returns.masked_fill(done, 0.0), lengths.masked_fill(done, 0)
        self._obs = obs
        return VecStep(obs, reward, terminated, truncated, final_obs, returns, lengths, {})

    def _read(self, outcome: Any) -> tuple[Any, Tensor, Tensor, Tensor, Mapping[str, Any]]:
        """Observations, rewards, ends, time limits and extras of a step, by either interface."""
        if not isinstance(outcome, tuple) or len(outcome) not in (4, 5):
            raise self._broken(f"step gives {reprlib.repr(outcome)}", "four or five values")
        obs, reward, done, *rest = outcome
        extras = rest[-1] if isinstance(rest[-1], Mapping) else {}
        time_outs = rest[0] if len(rest) == 2 else extras.get("time_outs")
        gains = self._column("reward", reward).to(torch.float32, copy=True)
        terminated = self._column("done", done).to(torch.bool)
        truncated = (
            torch.zeros_like(terminated) if time_outs is None else self._column("time_outs", time_outs).to(torch.bool)
        )
        if len(rest) == 2:
            truncated = truncated & ~terminated
        else:
            terminated = terminated & ~truncated  # done is true for both
        return self._seen(obs), gains, terminated, truncated, extras

    def _column(self, name: str, value: Any) -> Tensor:
        """What a step gives, a number for each environment."""
        if not isinstance(value, Tensor) or value.shape != (self.num_envs,):
            raise self._broken(f"{name} is {_shown(value)}", f"a tensor ({self.num_envs},)")
        return value

    def _start(self, seed: int) -> Any:
        """The first observations after a reset."""
        reset = getattr(self._envs, "reset", None)
        try:
            if reset is None:
                result = self._envs.get_observations()
            elif "seed" in inspect.signature(reset).parameters:
                result = reset(seed=seed)
            else:
                result = reset()
        except Exception as error:
            raise ConfigError(f"'{self.spec.id}' fails in reset: {reason_of(error)}.", fix_at(error)) from error
        return self._seen(result[0] if isinstance(result, tuple) else result)

    def _seen(self, obs: Any) -> Any:
        """The observations to learn from: (N, *O), or a flat dict of such."""
        groups = _plain(obs)
        if isinstance(groups, dict):
            group = self._group or next((name for name in ACTOR if name in groups), None)
            if group is not None and group not in groups:
                fix = did_you_mean(group, groups, f"It has: {', '.join(groups)}.")
                raise ConfigError(f"'{self.spec.id}' has no observations '{group}'.", fix)
            groups = groups if group is None else groups[group]
        parts = _flat(groups) if isinstance(groups, dict) else {"": groups}
        for name, part in parts.items():
            if not isinstance(part, Tensor) or part.shape[:1] != (self.num_envs,):
                what = f"the observation{f' {name!r}' if name else ''} is {_shown(part)}"
                raise self._broken(what, f"a tensor ({self.num_envs}, ...)")
            if part.device.type != self.device.type:
                raise ConfigError(
                    f"'{self.spec.id}' gives tensors on {part.device}, and training is on {self.device}.",
                    f"Pass device on in the function that makes it, or use --device {part.device}.",
                )
        real = {name: part if part.dtype in INTEGERS else part.to(self._dtype) for name, part in parts.items()}
        return real if isinstance(groups, dict) else real[""]

    def _actions(self) -> spaces.Space:
        """The space of an action: the environment's own, or numbers without bounds."""
        space = getattr(self._envs, "single_action_space", None)
        if isinstance(space, spaces.Space):
            return space
        number = getattr(self._envs, "num_actions", None)
        if not isinstance(number, int):
            raise ConfigError(
                f"'{self.spec.id}' says nothing of its actions.", "Give it a single_action_space, or num_actions."
            )
        return spaces.Box(-np.inf, np.inf, (number,), np.float32)

    def _broken(self, what: str, owed: str) -> RunError:
        return RunError(
            f"'{self.spec.id}' does not keep to its interface: {' '.join(what.split())}, and must be {owed}.",
            "docs/environments.md says what an environment on the device gives.",
        )

    def render(self, index: int = 0) -> np.ndarray:
        """A picture (H, W, 3) uint8, of whatever the simulator's camera sees.

        Raises:
            ConfigError: It returns no picture.
        """
        with named_errors(self.spec.id, "drawn"):
            picture = picture_of(self._envs.render())
        if picture is None:
            raise ConfigError(f"'{self.spec.id}' draws no picture.", "Its render() must return an array (H, W, 3).")
        return picture

    def state_dict(self) -> dict[str, Any]:
        """Empty: the state of a simulator cannot be saved."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Does nothing: no state was saved."""

    def close(self) -> None:
        """Closes the simulator."""
        _close(self._envs)


def _close(envs: Any) -> None:
    """Closes what can be closed."""
    close = getattr(envs, "close", None)
    if callable(close):
        close()


def _shown(value: Any) -> object:
    """The shape of a tensor, or any other value in short."""
    return tuple(value.shape) if isinstance(value, Tensor) else reprlib.repr(value)


def _plain(obs: Any) -> Any:
    """A TensorDict, or any mapping, as dicts."""
    if isinstance(obs, Tensor):
        return obs
    if isinstance(obs, Mapping) or (hasattr(obs, "keys") and hasattr(obs, "__getitem__")):
        return {str(key): _plain(obs[key]) for key in obs.keys()}  # noqa: SIM118 (a TensorDict iterates over its rows)
    return obs


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one, the names joined by dots."""
    flat: dict[str, Any] = {}
    for name, part in tree.items():
        flat |= _flat(part, f"{prefix}{name}.") if isinstance(part, dict) else {prefix + name: part}
    return flat


def _space_of(obs: Any) -> spaces.Space:
    """A space of numbers without bounds, in the shapes of observations (N, *O)."""
    if isinstance(obs, dict):
        return spaces.Dict({name: _space_of(part) for name, part in obs.items()})
    kind = np.dtype(str(obs.dtype).removeprefix("torch."))
    low, high = (-np.inf, np.inf) if kind.kind == "f" else (np.iinfo(kind).min, np.iinfo(kind).max)
    return spaces.Box(low, high, tuple(obs.shape[1:]), kind.type)
