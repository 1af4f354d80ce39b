"""Gymnasium's vector environments that reset in the step that ends an episode, with the interface of a loop."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import load_env_creator
from gymnasium.vector import AutoresetMode

from rltrain.adapters.given import NotAsPromised, Part, check_rows
from rltrain.adapters.loop import FINAL, INFO, OBS, SUCCESS, Recipe, close_quietly
from rltrain.adapters.spaces import Actions, Leaf
from rltrain.errors import RunError

MODE = "autoreset_mode"


def find_native(recipe: Recipe, single: gymnasium.Env, num_envs: int) -> gymnasium.vector.VectorEnv | None:
    """The environment's own vector form, if it has one that resets in the same step and has the same spaces.

    One that resets in the next step is not used: it gives a transition that never happened, from the last observation
    of an episode to the first of the next.
    """
    spec = recipe.spec
    if spec.vector_entry_point is None or spec.additional_wrappers or recipe.atari:
        return None
    try:
        creator: Any = spec.vector_entry_point
        creator = load_env_creator(creator) if isinstance(creator, str) else creator
    except (ImportError, AttributeError, gymnasium.error.Error):
        return None
    parameters = inspect.signature(creator).parameters
    asks = {MODE: AutoresetMode.SAME_STEP} if MODE in parameters else {}
    if not asks and getattr(creator, "metadata", {}).get(MODE) is not AutoresetMode.SAME_STEP:
        return None
    spec = copy.deepcopy(spec)
    if recipe.max_episode_steps is not None:
        spec.max_episode_steps = recipe.max_episode_steps
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    if spec.max_episode_steps is not None and "max_episode_steps" not in parameters and not takes_any:
        return None  # it keeps no time limit
    env = gymnasium.make_vec(
        spec, num_envs=num_envs, vectorization_mode="vector_entry_point", **{**recipe.kwargs, **asks}
    )
    same_spaces = (
        env.single_observation_space == single.observation_space and env.single_action_space == single.action_space
    )
    if env.metadata.get(MODE) is AutoresetMode.SAME_STEP and same_spaces:
        return env
    close_quietly(env)
    return None


class NativeLoop:
    """Does what a :class:`~rltrain.adapters.loop.Loop` does, by a vector environment.

    Args:
        env: The vector environment, in same-step mode.
        leaves: The parts of observations.
        actions: The conversion of actions.
        arrays: As for the loop.
        log_info: Names of numbers in info that are wanted.
    """

    def __init__(
        self,
        env: gymnasium.vector.VectorEnv,
        leaves: Sequence[Leaf],
        actions: Actions,
        arrays: dict[str, np.ndarray],
        log_info: Sequence[str] = (),
    ) -> None:
        self.log_info = log_info
        self.env = env
        self.leaves = leaves
        self.actions = actions
        self.arrays = arrays
        self.parts = [Part(arrays[FINAL + leaf.name], leaf) for leaf in leaves]
        self._steps = 0  # since the last reset of all
        self._return = np.zeros(env.num_envs)  # of the running episodes
        self._length = np.zeros(env.num_envs, dtype=np.int64)

    def reset(self, seeds: Sequence[int]) -> None:
        """Starts every environment anew from the first seed, which the vector environment divides among them."""
        self._return[:] = 0.0
        self._length[:] = 0
        obs, _ = self.env.reset(seed=seeds[0])
        self._steps = 0
        try:
            for part in self.parts:
                self.arrays[OBS + part.leaf.name][:] = part.all_of(obs)
        except NotAsPromised as error:
            raise self._broken(error, "reset") from error

    def step(self) -> None:
        """Steps every environment.

        Raises:
            RunError: They gave what their spaces do not have.
        """
        self._steps += 1
        try:
            self._step()
        except NotAsPromised as error:
            raise self._broken(error, "step") from error

    def _broken(self, error: NotAsPromised, what: str) -> RunError:
        who = "The vector environment" if error.row is None else f"Environment {error.row}"
        when = f" {self._steps:,}" if self._steps else ""
        return RunError(
            f"{who} broke its promise in {what}{when}: {error}.",
            "Mend the environment, or its spaces; use --env.vectorization sync to step single environments.",
        )

    def _step(self) -> None:
        arrays = self.arrays
        obs, reward, terminated, truncated, info = self.env.step(self.actions.to_env(arrays["action"]))
        n = self.env.num_envs
        for name, value in (("the reward", reward), ("terminated", terminated), ("truncated", truncated)):
            check_rows(name, value, n)
        self._return += reward
        self._length += 1
        arrays["reward"][:] = reward
        arrays["episode_return"][:] = self._return
        arrays["episode_length"][:] = self._length
        arrays["terminated"][:] = terminated
        np.greater(truncated, terminated, out=arrays["truncated"])
        done = arrays["terminated"] | arrays["truncated"]
        arrays[SUCCESS][:] = info.get(SUCCESS, np.nan)
        for name in self.log_info:
            numbers = np.asarray(info.get(name, np.nan))
            arrays[INFO + name][:] = numbers if numbers.dtype.kind in "fiub" and numbers.ndim < 2 else np.nan
        for part in self.parts:
            arrays[OBS + part.leaf.name][:] = part.array[:] = part.all_of(obs)
        if not done.any():
            return
        final = info["final_obs"]
        for leaf in self.leaves:
            kept = arrays[FINAL + leaf.name]
            if isinstance(final, np.ndarray) and final.dtype == object:
                for row in np.flatnonzero(done):
                    kept[row] = leaf.of(final[row])
            else:
                kept[done] = leaf.of(final)[done]
        success = info.get("final_info", {}).get(SUCCESS)
        if success is not None:
            arrays[SUCCESS][done] = success[done]
        for name in self.log_info:
            last = info.get("final_info", {}).get(name)
            if last is not None:
                arrays[INFO + name][done] = last[done]
        self._return[done] = 0.0
        self._length[done] = 0

    def close(self) -> None:
        """Closes the vector environment."""
        close_quietly(self.env)
