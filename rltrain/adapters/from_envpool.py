"""EnvPool's environments, stepped by C++ threads, as a vector environment.

EnvPool resets an environment in the step after the end of its episode, which looks like a transition that never
happened. Here ended environments are reset by their ids in the step that ended them. The step after an explicit reset
is a real first step, so none is lost.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium import spaces

from rltrain.adapters.foreign import check_arguments, import_for, quiet, unknown_id
from rltrain.adapters.gymnasium_ids import named_errors
from rltrain.adapters.loop import FINAL, OBS, SUCCESS
from rltrain.adapters.spaces import Actions, Leaf, observation_leaves
from rltrain.errors import ConfigError
from rltrain.registry import EnvSpec

if TYPE_CHECKING:
    import torch

    from rltrain.adapters.host_vec import HostVecEnv

NAMESPACE = "envpool/"
VIZDOOM = "envpool.vizdoom"
LIMIT = "max_episode_steps"
OURS = {"num_envs", "batch_size", "env_seed", "seed", "base_path", "gym_reset_return_info", LIMIT, "reward_threshold"}
"""Parts of EnvPool's configuration that this module sets or leaves alone."""
TRIAL = """
import envpool, sys
env = envpool.make_gymnasium(sys.argv[1], num_envs=1, render_mode="rgb_array")
env.reset()
env.render()
print("drawn")
"""
PLAIN_LIMITS = ("envpool.atari", "envpool.box2d", "envpool.classic_control", "envpool.mujoco.gym", "envpool.toy_text")
"""Families whose time limit only ends episodes. In others, such as MiniGrid, rewards depend on it."""


def find(id: str) -> EnvSpec | None:
    """The environment that EnvPool has under an id ``envpool/Name``; None for any other id.

    Raises:
        ConfigError: EnvPool is not installed, or has no such environment.
    """
    if not id.startswith(NAMESPACE):
        return None
    envpool = import_for(id, "envpool", "envpool")
    name = id.removeprefix(NAMESPACE)
    known = envpool.list_all_envs()
    if name not in known:
        raise unknown_id(id, [NAMESPACE + name for name in known])
    with named_errors(id), quiet():
        spec = envpool.make_spec(name)
    config = dict(zip(spec._config_keys, spec._config_values, strict=True))
    limit = config.get(LIMIT, 0)
    return EnvSpec(
        id,
        "envpool:make_gymnasium",
        description=f"EnvPool's {name}, stepped by threads in C++",
        group="envpool",
        max_episode_steps=int(limit) if 0 < limit < 2**31 - 1 else None,
        reward_threshold=spec.reward_threshold,
        vectorizer="rltrain.adapters.from_envpool:vectorize",
        batched=False,
        parameters={key: value for key, value in config.items() if key not in OURS},
    )


def vectorize(
    spec: EnvSpec,
    num_envs: int,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    max_episode_steps: int | None = None,
    render: bool = False,
    **kwargs: Any,
) -> HostVecEnv:
    """N environments of EnvPool.

    Args:
        spec: Result of :func:`find`.
        num_envs: N.
        device: Device of the tensors.
        dtype: Floating-point type of observations; float32 unless given.
        max_episode_steps: Time limit in steps; the registered one when None.
        render: Make environments to be drawn, which stay as they are at the end of an episode.
        **kwargs: EnvPool's own configuration, such as ``num_threads``.

    Raises:
        ConfigError: An argument is unknown, its spaces cannot be tensors, or it cannot be drawn.
    """
    from rltrain.adapters.host_vec import HostVecEnv

    check_arguments(spec, kwargs)
    envpool = import_for(spec.id, "envpool", "envpool")
    name = spec.id.removeprefix(NAMESPACE)
    family = envpool.registration.registry.specs[name][0]
    if family == VIZDOOM and name.startswith("Multi"):  # it says one player, and making it ends the process
        raise several_players(spec.id)
    limit = max_episode_steps or spec.max_episode_steps
    options = {**kwargs, "num_envs": num_envs}
    if limit is not None:
        # Where both happen in one step, EnvPool reports a termination as a truncation, so its limit must be after ours.
        options[LIMIT] = limit + 1 if family in PLAIN_LIMITS else limit
    if render:
        options["render_mode"] = "rgb_array"
        check_drawing(spec.id, name, family)
    with named_errors(spec.id), quiet():
        known = envpool.make_spec(name, **{key: value for key, value in options.items() if key != "render_mode"})
        if known.config.max_num_players > 1:
            raise several_players(spec.id)
        real = np.float32 if dtype is None else str(dtype).removeprefix("torch.")
        observation_space = _mended(known.gymnasium_observation_space)
        leaves, _ = observation_leaves(observation_space, real)
        actions = Actions.for_space(known.gymnasium_action_space)

    def make(seeds: Sequence[int]) -> Any:
        with quiet():
            pool = envpool.make_gymnasium(name, seed=list(seeds), **options)
            _ = pool.observation_space  # made when it is first asked for, with a warning
        return pool

    return HostVecEnv(
        spec,
        num_envs,
        observation_space,
        leaves,
        actions,
        lambda block: Pool(make, leaves, actions, block.arrays, limit, autoreset=not render),
        device=device,
        max_episode_steps=limit,
    )


def several_players(id: str) -> ConfigError:
    """The error for a game in which several agents act."""
    return ConfigError(
        f"'{id}' is a game of several players.",
        "Agents play alone: choose a game for one, or write a gymnasium.Env in which fixed policies play the others.",
    )


def check_drawing(id: str, name: str, family: str) -> None:
    """Raises an error if it cannot be drawn here.

    MuJoCo ends the whole process if it finds no OpenGL, so another process tries.

    Raises:
        ConfigError: It cannot be drawn.
    """
    if not family.startswith("envpool.mujoco"):
        return
    trial = subprocess.run([sys.executable, "-c", TRIAL, name], capture_output=True, text=True)
    if not trial.stdout.endswith("drawn\n"):
        raise ConfigError(
            f"'{id}' draws no pictures here: MuJoCo finds no OpenGL.",
            "Draw it on a machine with a display, or train Gymnasium's own environment of that name.",
        )


def _mended(space: spaces.Space) -> spaces.Space:
    """A space with infinite bounds where EnvPool's bounds are the smallest positive and the largest float."""
    match space:
        case spaces.Dict():
            return spaces.Dict({name: _mended(part) for name, part in space.spaces.items()})
        case spaces.Box() if space.dtype.kind == "f":
            numbers = np.finfo(space.dtype)
            low = np.where(space.low == numbers.tiny, -np.inf, space.low)
            high = np.where(space.high == numbers.max, np.inf, space.high)
            return spaces.Box(low.astype(space.dtype), high.astype(space.dtype), space.shape, space.dtype.type)
    return space


class Pool:
    """Does what a :class:`~rltrain.adapters.loop.Loop` does, by EnvPool.

    Args:
        make: Function that makes a pool of N environments from N seeds.
        leaves: The parts of observations.
        actions: The conversion of actions.
        arrays: As for the loop.
        limit: Time limit in steps.
        autoreset: False leaves a finished environment as it is.
    """

    def __init__(
        self,
        make: Callable[[Sequence[int]], Any],
        leaves: Sequence[Leaf],
        actions: Actions,
        arrays: dict[str, np.ndarray],
        limit: int | None,
        *,
        autoreset: bool = True,
    ) -> None:
        self.make = make
        self.leaves = leaves
        self.actions = actions
        self.arrays = arrays
        self.limit = limit
        self.autoreset = autoreset
        n = len(arrays["reward"])
        self._return = np.zeros(n)  # of the running episodes
        self._length = np.zeros(n, dtype=np.int64)
        self.pool = make(range(n))  # so that its errors show now

    def reset(self, seeds: Sequence[int]) -> None:
        """Makes the pool anew, because it takes seeds only then."""
        self.close()
        self._return[:] = 0.0
        self._length[:] = 0
        self.pool = self.make(seeds)
        self._write(OBS, *self.pool.reset())

    def step(self) -> None:
        """Steps every environment, and resets those whose episode ends."""
        arrays = self.arrays
        obs, reward, terminated, truncated, info = self.pool.step(self.actions.to_env(arrays["action"]))
        rows = self._write(FINAL, obs, info)
        arrays["reward"][rows] = reward
        arrays["terminated"][rows], arrays["truncated"][rows] = terminated, truncated
        self._return += arrays["reward"]
        self._length += 1
        if self.limit is not None:
            arrays["truncated"] |= self._length >= self.limit
        np.greater(arrays["truncated"], arrays["terminated"], out=arrays["truncated"])
        arrays["episode_return"][:], arrays["episode_length"][:] = self._return, self._length
        arrays[SUCCESS][rows] = info.get(SUCCESS, np.nan)
        ended = np.flatnonzero(arrays["terminated"] | arrays["truncated"]).astype(np.int32)
        if not len(ended):
            return
        self._return[ended], self._length[ended] = 0.0, 0
        if self.autoreset:
            self._write(OBS, *self.pool.reset(ended))
        else:
            for leaf in self.leaves:
                arrays[OBS + leaf.name][ended] = arrays[FINAL + leaf.name][ended]

    def _write(self, prefix: str, obs: Any, info: dict[str, Any]) -> np.ndarray:
        """Writes observations to their rows, and returns these rows."""
        rows = info["env_id"]
        for leaf in self.leaves:
            self.arrays[prefix + leaf.name][rows] = leaf.of(obs)
        return rows

    def render(self, index: int) -> np.ndarray:
        """A picture of the environment in a row.

        Raises:
            ConfigError: EnvPool does not draw it.
        """
        try:
            return self.pool.render(env_ids=np.array([index]))[0]
        except RuntimeError as error:
            raise ConfigError(
                f"EnvPool draws no pictures of it: {error}.", "Score it instead: rltrain eval."
            ) from error

    def close(self) -> None:
        """Ends the threads."""
        self.pool.close()
