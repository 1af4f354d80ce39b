"""gymnax's environments for :class:`~rltrain.adapters.jax_vec.JaxVecEnv`, with truncation told from termination."""

from __future__ import annotations

from dataclasses import asdict
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium import spaces

from rltrain.adapters.foreign import check_arguments, constructor_arguments, import_for, quiet, unknown_id
from rltrain.adapters.gymnasium_ids import named_errors
from rltrain.errors import ConfigError
from rltrain.registry import EnvSpec

if TYPE_CHECKING:
    import torch

    from rltrain.adapters.jax_vec import JaxVecEnv

NAMESPACE = "gymnax/"
LIMIT = "max_steps_in_episode"
NEVER = 2**30  # steps; a limit that no episode reaches
CLASSIC = {
    "Acrobot-v1": ("joint_angle1", "joint_angle2", "velocity_1", "velocity_2"),
    "CartPole-v1": ("x", "x_dot", "theta", "theta_dot"),
    "MountainCar-v0": ("position", "velocity"),
    "MountainCarContinuous-v0": ("position", "velocity"),
    "Pendulum-v1": ("theta", "theta_dot"),
}
"""Environments that Gymnasium draws, and the fields of gymnax's state that make up Gymnasium's."""
CELL = 20  # pixels


@lru_cache(maxsize=64)
def find(id: str) -> EnvSpec | None:
    """The environment that gymnax has under an id ``gymnax/Name``; None for any other id.

    Raises:
        ConfigError: gymnax is not installed, or has no such environment.
    """
    if not id.startswith(NAMESPACE):
        return None
    gymnax = import_for(id, "gymnax", "jax")
    name = id.removeprefix(NAMESPACE)
    if name not in gymnax.registered_envs:
        raise unknown_id(id, [NAMESPACE + name for name in gymnax.registered_envs])
    with named_errors(id), quiet():
        env, params = gymnax.make(name)
    creator = type(env)
    fields = {name: value for name, value in asdict(params).items() if name != LIMIT}
    return EnvSpec(
        id,
        f"{creator.__module__}:{creator.__qualname__}",
        description=f"gymnax's {name}, in JAX",
        group="gymnax",
        max_episode_steps=int(getattr(params, LIMIT)),
        vectorizer="rltrain.adapters.from_gymnax:vectorize",
        parameters={**constructor_arguments(creator), **fields},
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
) -> JaxVecEnv:
    """N environments of gymnax.

    Args:
        spec: Result of :func:`find`.
        num_envs: N.
        device: Device of the tensors.
        dtype: Floating-point type of observations; float32 unless given.
        max_episode_steps: Time limit in steps; the registered one when None.
        render: Make environments to be drawn, which stay as they are at the end of an episode.
        **kwargs: Constructor arguments, and fields of the environment's parameters.

    Raises:
        ConfigError: An argument is unknown, its spaces cannot be tensors, or it cannot be drawn.
    """
    from rltrain.adapters.jax_vec import JaxVecEnv

    check_arguments(spec, kwargs)
    with named_errors(spec.id), quiet():
        game = Gymnax(spec.id.removeprefix(NAMESPACE), max_episode_steps, kwargs)
    if render:
        game.check_drawing(spec.id)
    arguments = {**kwargs, LIMIT: game.max_episode_steps}  # observations may depend on it
    return JaxVecEnv(spec, game, num_envs, arguments=arguments, device=device, dtype=dtype, render=render)


class Gymnax:
    """One of gymnax's environments as a :class:`~rltrain.adapters.jax_program.JaxGame`.

    gymnax's ``done`` is true for terminations and for the time limit alike. The step is therefore computed twice: with
    the real limit, for observations that show the time, and with one that is never reached, for the termination. The
    compiler merges the two.

    Args:
        name: The id without its namespace.
        max_episode_steps: Time limit in steps; gymnax's own when None.
        kwargs: Constructor arguments, and fields of its parameters.
    """

    def __init__(self, name: str, max_episode_steps: int | None, kwargs: dict[str, Any]) -> None:
        import gymnax

        fields = {field: kwargs[field] for field in kwargs if field in gymnax.make(name)[1].__dataclass_fields__}
        env, params = gymnax.make(name, **{key: value for key, value in kwargs.items() if key not in fields})
        if max_episode_steps is not None:
            fields[LIMIT] = max_episode_steps
        self.name = name
        self.env: Any = env
        self.params: Any = params.replace(**fields)
        self.endless: Any = self.params.replace(**{LIMIT: NEVER})
        self.max_episode_steps = int(getattr(self.params, LIMIT))
        self.observation_space = gymnasium_space(env.observation_space(self.params))
        self.action_space = gymnasium_space(env.action_space(self.params))
        self.render_fps = 50.0 if name == "CartPole-v1" else 30.0 if name in CLASSIC else 10.0
        self._drawn: Any = None  # Gymnasium's environment, to draw with

    def reset(self, key: Any) -> tuple[Any, Any]:
        """The first state and observation."""
        obs, state = self.env.reset_env(key, self.params)
        return state, obs

    def step(self, key: Any, state: Any, action: Any) -> tuple[Any, Any, Any, Any]:
        """The next state and observation, the reward, and whether the episode terminated."""
        obs, after, reward, _, _ = self.env.step_env(key, state, action, self.params)
        _, _, _, terminated, _ = self.env.step_env(key, state, action, self.endless)
        return after, obs, reward, terminated

    def check_drawing(self, id: str) -> None:
        """Raises an error if it cannot be drawn.

        Raises:
            ConfigError: It cannot be drawn.
        """
        if self.name not in CLASSIC and len(self.observation_space.shape or ()) != 3:
            raise ConfigError(
                f"'{id}' draws no pictures: only classic control and environments seen as a grid (H, W, C) do.",
                "Score it instead: rltrain eval.",
            )

    def render(self, state: Any) -> np.ndarray:
        """Gymnasium's picture of the state where Gymnasium has it, else its grid, a colour for each channel."""
        if self.name not in CLASSIC:
            with quiet():
                return picture_of_grid(np.asarray(self.env.get_obs(state)))
        if self._drawn is None:
            self._drawn = gymnasium.make(self.name, render_mode="rgb_array", disable_env_checker=True)
            self._drawn.reset()
        env = self._drawn.unwrapped
        env.state = np.array([getattr(state, field) for field in CLASSIC[self.name]], dtype=np.float64)
        if self.name == "Pendulum-v1":
            env.last_u = float(np.ravel(state.last_u)[0])
        return self._drawn.render()


def picture_of_grid(grid: np.ndarray) -> np.ndarray:
    """A picture (H, W, 3) uint8 of a grid (H, W, C): each channel in a colour of its own, the last on top."""
    from matplotlib import colormaps

    colours = (255 * colormaps["turbo"](np.linspace(0.05, 0.95, grid.shape[-1]))[:, :3]).astype(np.uint8)
    picture = np.zeros((*grid.shape[:2], 3), np.uint8)
    for channel, colour in enumerate(colours):
        picture[grid[..., channel] > 0] = colour
    return picture.repeat(CELL, 0).repeat(CELL, 1)


def gymnasium_space(space: Any) -> spaces.Space:
    """A space of gymnax as a Gymnasium space.

    Raises:
        ConfigError: Gymnasium has no such space.
    """
    import jax

    match type(space).__name__:
        case "Discrete":
            return spaces.Discrete(int(space.n))
        case "Box":
            dtype = np.dtype(jax.dtypes.canonicalize_dtype(space.dtype))
            low, high = (np.broadcast_to(np.asarray(x, dtype), space.shape) for x in (space.low, space.high))
            if dtype.kind == "f":  # the largest float stands for no bound
                low = np.where(low <= np.finfo(dtype).min, -np.inf, low)
                high = np.where(high >= np.finfo(dtype).max, np.inf, high)
            return spaces.Box(low.astype(dtype), high.astype(dtype), tuple(space.shape), dtype.type)
        case "Dict":
            return spaces.Dict({name: gymnasium_space(part) for name, part in space.spaces.items()})
    raise ConfigError(f"Observations or actions cannot be tensors: there is a {space}.", "Use another environment.")
