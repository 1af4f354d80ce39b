"""brax's environments, without its wrappers, for :class:`~rltrain.adapters.jax_vec.JaxVecEnv`.

brax's wrappers keep the time limit and start every episode of a row from the same state. Here the vector environment
keeps the limit, and draws a new state for every episode.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium import spaces

from rltrain.adapters.foreign import check_arguments, constructor_arguments, import_for, quiet, unknown_id
from rltrain.adapters.gymnasium_ids import named_errors
from rltrain.errors import ConfigError
from rltrain.registry import EnvSpec

if TYPE_CHECKING:
    import torch

    from rltrain.adapters.jax_vec import JaxVecEnv

NAMESPACE = "brax/"
EPISODE_LENGTH = 1000
"""Time limit in steps that brax trains with (brax.envs.create)."""


def find(id: str) -> EnvSpec | None:
    """The environment that brax has under an id ``brax/name``; None for any other id.

    Raises:
        ConfigError: brax is not installed, or has no such environment.
    """
    if not id.startswith(NAMESPACE):
        return None
    known = import_for(id, "brax.envs", "jax")._envs
    name = id.removeprefix(NAMESPACE)
    if name not in known:
        raise unknown_id(id, [NAMESPACE + name for name in known])
    parameters = inspect.signature(known[name]).parameters
    return EnvSpec(
        id,
        f"{known[name].__module__}:{known[name].__qualname__}",
        description=f"brax's {name}, in JAX",
        group="brax",
        max_episode_steps=EPISODE_LENGTH,
        vectorizer="rltrain.adapters.from_brax:vectorize",
        parameters={
            **constructor_arguments(known[name]),
            **({"n_frames": None} if any(one.kind is one.VAR_KEYWORD for one in parameters.values()) else {}),
        },
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
    """N environments of brax.

    Args:
        spec: Result of :func:`find`.
        num_envs: N.
        device: Device of the tensors.
        dtype: Floating-point type of observations; float32 unless given.
        max_episode_steps: Time limit in steps; 1,000 when None.
        render: Make environments to be drawn, which stay as they are at the end of an episode.
        **kwargs: Constructor arguments, such as ``backend="spring"``.

    Raises:
        ConfigError: An argument is unknown, or it cannot be compiled or drawn.
    """
    from rltrain.adapters.jax_vec import JaxVecEnv

    check_arguments(spec, kwargs)
    limit = max_episode_steps or spec.max_episode_steps
    assert limit is not None
    with named_errors(spec.id), quiet():
        game = Brax(spec.id, limit, kwargs)
    if render:
        game.check_drawing()
    return JaxVecEnv(spec, game, num_envs, arguments=kwargs, device=device, dtype=dtype, render=render)


class Brax:
    """One of brax's environments as a :class:`~rltrain.adapters.jax_program.JaxGame`.

    Args:
        id: The id, with its namespace.
        max_episode_steps: Time limit in steps.
        kwargs: Constructor arguments.
    """

    def __init__(self, id: str, max_episode_steps: int, kwargs: dict[str, Any]) -> None:
        import brax.envs
        import jax

        self.id = id
        self.env = brax.envs.get_environment(id.removeprefix(NAMESPACE), **kwargs)
        self.max_episode_steps = max_episode_steps
        seen = jax.eval_shape(self.env.reset, jax.ShapeDtypeStruct((2,), np.uint32)).obs
        self.observation_space = _unbounded(seen)
        self.action_space = spaces.Box(-1.0, 1.0, (int(self.env.action_size),), np.float32)
        self.render_fps = 1.0 / float(getattr(self.env, "dt", 1 / 30))

    def reset(self, key: Any) -> tuple[Any, Any]:
        """The first state and observation."""
        state = self.env.reset(key)
        return state, state.obs

    def step(self, key: Any, state: Any, action: Any) -> tuple[Any, Any, Any, Any]:
        """The next state and observation, the reward, and whether the episode terminated."""
        after = self.env.step(state, action)
        return after, after.obs, after.reward, after.done > 0.5

    def check_drawing(self) -> None:
        """Raises an error if it cannot be drawn here.

        Raises:
            ConfigError: There is no model to draw, or no OpenGL to draw it with.
        """
        try:
            import mujoco

            mujoco.Renderer(self.env.sys.mj_model, 24, 32).close()
        except Exception as error:
            reason = " ".join(str(error).split()).partition(",")[0]
            raise ConfigError(
                f"'{self.id}' cannot be drawn here: {reason}.",
                "Where there is no display, set MUJOCO_GL=egl, or osmesa, whichever is installed.",
            ) from error

    def render(self, state: Any) -> np.ndarray:
        """A picture drawn by MuJoCo."""
        return np.asarray(self.env.render([state.pipeline_state])[0])


def _unbounded(seen: Any) -> spaces.Space:
    """An unbounded space of observations with this shape and type."""
    if isinstance(seen, dict):
        return spaces.Dict({name: _unbounded(part) for name, part in seen.items()})
    return spaces.Box(-np.inf, np.inf, tuple(seen.shape), np.float32)
