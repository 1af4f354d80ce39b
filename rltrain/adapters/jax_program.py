"""Compiles a single environment written in JAX for N copies: one program starts them and one steps them."""

from __future__ import annotations

import time
import warnings
from typing import Any, Protocol

import numpy as np
from gymnasium import spaces

from rltrain.adapters.foreign import quiet
from rltrain.adapters.spaces import Actions, observation_leaves

LONG = 5.0  # seconds of compilation from which on it is reported
KEPT = 16  # programs


class JaxGame(Protocol):
    """Interface of a single environment as JAX functions. State and observation are pytrees."""

    max_episode_steps: int
    render_fps: float

    @property
    def observation_space(self) -> spaces.Space:
        """Of Gymnasium."""
        ...

    @property
    def action_space(self) -> spaces.Space:
        """Of Gymnasium."""
        ...

    def reset(self, key: Any) -> tuple[Any, Any]:
        """The first state and observation, from a JAX key."""

    def step(self, key: Any, state: Any, action: Any) -> tuple[Any, Any, Any, Any]:
        """The next state and observation, the reward, and whether the episode terminated (not by time)."""

    def render(self, state: Any) -> np.ndarray:
        """A picture (H, W, 3) uint8 of a state."""


class Program:
    """The compiled functions for N environments: ``start`` and ``step``.

    Both take and return what is carried from step to step: states, keys of the random streams (one for each row, so no
    row depends on another), and return and length of the running episodes.

    Args:
        game: The environment.
        num_envs: N.
        device: JAX device.
        autoreset: False leaves a finished environment as it is.
    """

    def __init__(self, game: JaxGame, num_envs: int, device: Any, autoreset: bool) -> None:
        import jax

        self.game = game
        self.num_envs = num_envs
        self.autoreset = autoreset
        self.leaves, _ = observation_leaves(game.observation_space)
        self.actions = Actions.for_space(game.action_space)
        self.device = device
        self._compiled = False
        with jax.default_device(device), quiet():  # traced now, so that errors of the environment show
            seed = jax.ShapeDtypeStruct((), np.int32)
            self.carry, _ = jax.eval_shape(self._start, seed)
            space = self.actions.space
            kind = np.float32 if isinstance(space, spaces.Box) else np.int32
            action = jax.ShapeDtypeStruct((num_envs, *(space.shape or ())), kind)
            self._traced = jax.jit(self._start).trace(seed), jax.jit(self._step).trace(self.carry, action, seed)

    def compile(self, name: str) -> None:
        """Compiles :attr:`start` and :attr:`step` the first time, and reports that if it took long."""
        import jax

        if self._compiled:
            return
        begin = time.perf_counter()
        with jax.default_device(self.device), quiet():
            self.start, self.step = (traced.lower().compile() for traced in self._traced)
        self._compiled = True
        if (seconds := time.perf_counter() - begin) > LONG:
            warnings.warn(
                f"'{name}' took {seconds:.0f} s to compile for {self.num_envs} environments; time/fps leaves that out.",
                stacklevel=3,
            )

    def _start(self, seed: Any) -> tuple[dict[str, Any], list[Any]]:
        """The initial carry, and the first observations."""
        import jax
        import jax.numpy as jnp

        keys = jax.random.split(jax.random.PRNGKey(seed), (self.num_envs, 2))
        state, obs = jax.vmap(self.game.reset)(keys[:, 0])
        carry = {
            "state": jax.tree.map(lambda x: jnp.asarray(x, jnp.asarray(x).dtype), state),
            "keys": keys[:, 1],
            "return": jnp.zeros(self.num_envs, jnp.float32),
            "length": jnp.zeros(self.num_envs, jnp.int32),
        }
        return carry, self._seen(obs)

    def _step(self, carry: dict[str, Any], action: Any, limit: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The next carry and the outcome of a step, with a time limit in steps."""
        import jax
        import jax.numpy as jnp

        keys = jax.vmap(lambda key: jax.random.split(key, 3))(carry["keys"])
        state, obs, reward, terminated = jax.vmap(self.game.step)(keys[:, 1], carry["state"], self._acted(action))
        state = jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), state, carry["state"])
        seen = self._seen(obs)
        reward, terminated = jnp.asarray(reward, jnp.float32), jnp.asarray(terminated, bool)
        length, total = carry["length"] + 1, carry["return"] + reward
        truncated = (length >= limit) & ~terminated
        done = terminated | truncated

        def anew(keys: Any) -> tuple[Any, Any]:
            first, first_obs = jax.vmap(self.game.reset)(keys)
            return jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), first, state), self._seen(first_obs)

        # Starts cost as much as a step in some environments: they are computed in steps that end an episode.
        restart = done & self.autoreset
        starts = jax.lax.cond(restart.any(), anew, lambda keys: (state, seen), keys[:, 2])
        carried, obs = jax.tree.map(lambda new, old: jnp.where(_rows(restart, old), new, old), starts, (state, seen))
        carry = {
            "state": carried,
            "keys": keys[:, 0],
            "return": jnp.where(done, 0.0, total),
            "length": jnp.where(done, 0, length),
        }
        outcome = {"obs": obs, "reward": reward, "terminated": terminated, "truncated": truncated, "final_obs": seen}
        return carry, {**outcome, "episode_return": total, "episode_length": length}

    def _seen(self, obs: Any) -> list[Any]:
        """The arrays of an observation, in the types of the space."""
        import jax.numpy as jnp

        kinds = (np.int32 if leaf.dtype == np.int64 else leaf.dtype for leaf in self.leaves)
        return [
            jnp.asarray(leaf.of(obs), kind).reshape(self.num_envs, *leaf.shape)
            for leaf, kind in zip(self.leaves, kinds, strict=True)
        ]

    def _acted(self, action: Any) -> Any:
        """Actions as the environment takes them, clipped to the bounds of a Box."""
        import jax.numpy as jnp

        space = self.actions.of_env
        if isinstance(space, spaces.Box):
            return jnp.clip(action, space.low, space.high).astype(space.dtype)
        return action.reshape(self.num_envs, *(space.shape or ()))


def _rows(mask: Any, like: Any) -> Any:
    """A mask (N,) that selects rows of an array."""
    return mask.reshape(-1, *(1,) * (like.ndim - 1))


_programs: dict[tuple[Any, ...], Program] = {}
"""Compiled programs, kept because evaluations recur and compiling may take longer than they do."""


def program_for(key: tuple[Any, ...], game: JaxGame, num_envs: int, device: Any, autoreset: bool) -> Program:
    """The program of a game; ``key`` tells games apart."""
    key = (*key, num_envs, device, autoreset)
    if key not in _programs:
        if len(_programs) >= KEPT:
            del _programs[next(iter(_programs))]
        _programs[key] = Program(game, num_envs, device, autoreset)
    return _programs[key]
