"""A loop over Gymnasium environments, which reads and writes arrays that it does not own."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np

from rltrain.adapters.spaces import Actions, Leaf
from rltrain.errors import RunError

OBS, FINAL = "obs:", "final_obs:"  # before the names of leaves
SUCCESS = "is_success"


@dataclass(frozen=True)
class Recipe:
    """How to make an environment, in any process.

    Attributes:
        spec: Gymnasium's registration.
        kwargs: Constructor arguments.
        max_episode_steps: Time limit in steps; the registered one when None.
        atari: Whether to prepare Atari frames.
        render_mode: None or ``"rgb_array"``.
    """

    spec: Any
    kwargs: dict[str, Any]
    max_episode_steps: int | None = None
    atari: bool = False
    render_mode: str | None = None

    def make(self) -> gymnasium.Env:
        """Makes an environment."""
        kwargs = dict(self.kwargs)
        if self.atari:
            kwargs.setdefault("frameskip", 1)
        if self.render_mode is not None:
            kwargs["render_mode"] = self.render_mode
        limit = self.max_episode_steps
        env = gymnasium.make(
            self.spec, max_episode_steps=None if limit is None else -1, disable_env_checker=True, **kwargs
        )
        if self.atari:
            env = gymnasium.wrappers.AtariPreprocessing(env)
        return env if limit is None else gymnasium.wrappers.TimeLimit(env, limit)


class Loop:
    """Steps environments one after the other and resets each in the step that ends its episode.

    It writes reward, statistics, flags and ``final_obs`` in every step, but ``obs`` only for environments whose episode
    ended; for all others ``obs`` equals ``final_obs``.

    Args:
        recipe: How to make the environments.
        rows: Their rows of the arrays.
        leaves: The parts of observations.
        actions: The conversion of actions.
        arrays: ``action reward terminated truncated episode_return episode_length is_success`` and, for every leaf,
            ``obs:NAME`` and ``final_obs:NAME``, each (N, ...).
        autoreset: False leaves a finished environment as it is.
    """

    def __init__(
        self,
        recipe: Recipe,
        rows: range,
        leaves: Sequence[Leaf],
        actions: Actions,
        arrays: dict[str, np.ndarray],
        *,
        autoreset: bool = True,
    ) -> None:
        self.envs: list[gymnasium.Env] = []
        self.rows = rows
        self.leaves = leaves
        self.actions = actions
        self.autoreset = autoreset
        own = {name: array[rows.start : rows.stop] for name, array in arrays.items()}
        self.action = own["action"]
        self.reward, self.terminated, self.truncated = own["reward"], own["terminated"], own["truncated"]
        self.episode_return, self.episode_length = own["episode_return"], own["episode_length"]
        self.success = own[SUCCESS]
        self.obs = [(own[OBS + leaf.name], leaf.path) for leaf in leaves]
        self.final_obs = [(own[FINAL + leaf.name], leaf.path) for leaf in leaves]
        self._return = np.zeros(len(rows))  # of the running episodes
        self._length = np.zeros(len(rows), dtype=np.int64)
        try:
            for _ in rows:
                self.envs.append(recipe.make())
        except BaseException:
            self.close()
            raise

    def reset(self, seeds: Sequence[int]) -> None:
        """Starts every environment anew, each with a seed.

        Raises:
            RunError: An environment failed, or gave observations of another shape than its space.
        """
        self._return[:] = 0.0
        self._length[:] = 0
        for i, (env, seed) in enumerate(zip(self.envs, seeds, strict=True)):
            try:
                obs, _ = env.reset(seed=seed)
                for leaf in self.leaves:
                    shape = np.shape(leaf.of(obs))
                    if shape != leaf.shape:
                        raise ValueError(f"observation {leaf.name} of shape {shape}, and its space has {leaf.shape}")
                _write(self.obs, i, obs)
            except Exception as error:
                raise self._failed(i, error, "reset") from error

    def step(self) -> None:
        """Steps every environment with its row of ``action``.

        Raises:
            RunError: An environment failed.
        """
        actions = self.actions.to_env(self.action)
        reward, terminated, truncated, success = self.reward, self.terminated, self.truncated, self.success
        success.fill(np.nan)
        ended = []
        i = -1
        try:
            for i, env in enumerate(self.envs):
                obs, reward[i], terminal, cut, info = env.step(actions[i])
                _write(self.final_obs, i, obs)
                terminated[i], truncated[i] = terminal, cut
                if SUCCESS in info:
                    success[i] = info[SUCCESS]
                if terminal or cut:
                    ended.append(i)
        except Exception as error:
            raise self._failed(i, error, "step") from error
        np.greater(truncated, terminated, out=truncated)
        self._return += reward
        self._length += 1
        self.episode_return[:] = self._return
        self.episode_length[:] = self._length
        for i in ended:
            self._return[i], self._length[i] = 0.0, 0
            if self.autoreset:
                try:
                    obs, _ = self.envs[i].reset()
                    _write(self.obs, i, obs)
                except Exception as error:
                    raise self._failed(i, error, "reset") from error
            else:
                for (array, _), (final, _) in zip(self.obs, self.final_obs, strict=True):
                    array[i] = final[i]

    def render(self, index: int) -> Any:
        """A picture of the environment in a row."""
        return self.envs[index - self.rows.start].render()

    def close(self) -> None:
        """Closes the environments."""
        while self.envs:
            close_quietly(self.envs.pop())

    def _failed(self, i: int, error: Exception, what: str) -> RunError:
        reason = f"{type(error).__name__}: {error}".rstrip(".")
        return RunError(f"Environment {self.rows[i]} failed in {what}: {reason}.", "--debug shows where.")


def close_quietly(env: gymnasium.Env) -> None:
    """Closes an environment and ignores errors, such as those of a viewer that was never opened."""
    with suppress(Exception):
        env.close()


def _write(parts: list[tuple[np.ndarray, tuple]], i: int, obs: Any) -> None:
    for array, path in parts:
        part = obs
        for key in path:
            part = part[key]
        array[i] = part
