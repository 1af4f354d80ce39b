"""Any Gymnasium environment as a vector environment of ours: NumPy on their side, tensors on a device on ours."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Protocol

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.adapters.block import Block
from rltrain.adapters.gymnasium_ids import make_recipe, named_errors
from rltrain.adapters.leaves import Actions, Leaf, observation_leaves, seen_space
from rltrain.adapters.loop import FINAL, OBS, SUCCESS, Loop, Recipe, close_quietly
from rltrain.adapters.native import NativeLoop, find_native
from rltrain.adapters.transfer import Transfer
from rltrain.adapters.workers import Workers
from rltrain.env import Observation
from rltrain.errors import ConfigError
from rltrain.rng import derive_seed, global_kept
from rltrain.specs import EnvSpec
from rltrain.vec import VecStep

TRIAL_SECONDS, TRIAL_STEPS = 0.2, 200
WORKER_COST = 60e-6
"""Seconds that each worker costs in a step, for being told to step, waking up and answering."""

_trials: dict[str, float] = {}
"""Seconds per step that trials found, by recipe."""


class Crew(Protocol):
    """Who steps the environments: a loop in this process, workers, or a vector environment of their own."""

    def reset(self, seeds: list[int]) -> None:
        """Starts every environment anew."""

    def step(self) -> None:
        """Steps every environment."""

    def close(self) -> None:
        """Closes them."""


class GymVecEnv:
    """N Gymnasium environments behind :class:`~rltrain.vec.VecEnv`, each reset in the step that ends its episode.

    Dict and Tuple observations become a flat dict, the names of nested entries joined by dots; floating-point numbers
    become float32. Box actions are clipped to their space. Of ``info`` there is ``is_success``, NaN where an
    environment says nothing. Environments cannot be saved, so a resumed run starts new episodes.

    Everything a step brings is in one block of memory: one copy takes it to the device (:class:`Transfer`), another
    brings the actions. The latter is waited for, so that nothing is written over before it has been read.

    Args:
        spec: What is registered.
        num_envs: N.
        device: Where the tensors live.
        dtype: Floating-point type of observations.
        max_episode_steps: Time limit in steps; the registered one when None.
        render: The environment is to be drawn: it is left as it is at the end of an episode.
        vectorization: ``sync``: a loop in this process; ``async``: shared with worker processes, one for each further
            core; ``vector``: the environment's own vector form, if that resets in the same step; ``auto``: the latter
            where there is one, else as many workers as a trial of a fifth of a second says are worth it, possibly
            none. The streams do not depend on the workers.
        start_method: How workers are started: ``fork``, ``spawn`` or ``forkserver``; Python's own choice when None.
        atari: Whether to prepare Atari frames: 84x84 in gray, every fourth, up to 30 random steps at the start.
        **kwargs: Constructor arguments of the environment.

    Raises:
        ConfigError: The environment cannot be made, or its spaces cannot be tensors.
    """

    exact_resume = False

    def __init__(
        self,
        spec: EnvSpec,
        num_envs: int,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        max_episode_steps: int | None = None,
        render: bool = False,
        vectorization: str = "auto",
        start_method: str | None = None,
        atari: bool = False,
        **kwargs: Any,
    ) -> None:
        self.spec = spec
        self.num_envs = num_envs
        self.device = torch.device(device)
        self.max_episode_steps = max_episode_steps or spec.max_episode_steps
        recipe = make_recipe(spec, kwargs, max_episode_steps, atari=atari, render=render)
        real = np.dtype(str(dtype or torch.float32).removeprefix("torch."))
        with named_errors(spec.id), ExitStack() as stack:
            first = recipe.make()
            stack.callback(close_quietly, first)
            self.render_fps = float(first.metadata.get("render_fps") or 30)
            leaves, self.left_out = observation_leaves(first.observation_space, real)
            if atari:  # a picture of one channel
                leaves = [replace(leaf, space=spaces.Box(0, 255, (1, *leaf.shape), np.uint8)) for leaf in leaves]
            actions = Actions.for_space(first.action_space)
            self.single_observation_space = seen_space(leaves)
            self.single_action_space = actions.space
            native = None if render or vectorization not in ("auto", "vector") else find_native(recipe, first, num_envs)
            self.vectorization, processes = choose(recipe, first, num_envs, vectorization, native is not None)

        fields = block_fields(num_envs, leaves, actions)
        block = Block(fields)
        arrays = self._arrays = block.arrays
        self._action = torch.from_numpy(arrays["action"])
        seen = {prefix + leaf.name: (num_envs, *_shape(leaf.space)) for leaf in leaves for prefix in (OBS, FINAL)}
        self._without_obs, self._with_obs = block.offsets[OBS + leaves[0].name], block.offsets["action"]
        self._to_patch = [(arrays[OBS + leaf.name], arrays[FINAL + leaf.name]) for leaf in leaves]
        self._names = [leaf.name for leaf in leaves] if leaves[0].path else None
        self._has_success = False

        self._crew: Crew
        with named_errors(spec.id):
            if native is not None and self.vectorization == "vector":
                self._crew = NativeLoop(native, leaves, actions, arrays)
            elif self.vectorization == "async":
                self._crew = Workers(
                    recipe, num_envs, leaves, actions, fields, block, processes=processes, start_method=start_method
                )
            else:
                self._crew = Loop(recipe, range(num_envs), leaves, actions, arrays, autoreset=not render)
        self._transfer = Transfer(block, seen, self.device)  # last: workers are started before CUDA is

    def reset(self, seed: int) -> Observation:
        """Starts every environment anew, each with a seed of its own, and returns the first observations (N, *O).

        Raises:
            RunError: An environment failed.
        """
        self._crew.reset([derive_seed(seed, "env", i) % 2**31 for i in range(self.num_envs)])
        return self._observation(self._transfer.take(self._with_obs), OBS)

    def step(self, action: Tensor) -> VecStep:
        """Steps every environment with ``action`` (N, *A); finished ones are reset in the same step.

        Raises:
            ValueError: ``action`` has another shape.
            RunError: An environment failed, or a worker was killed.
        """
        if action.shape != self._action.shape:
            raise ValueError(f"action has shape {tuple(action.shape)}, expected {tuple(self._action.shape)}")
        self._action.copy_(action)
        self._crew.step()
        done = self._arrays["terminated"] | self._arrays["truncated"]
        ended = bool(done.any())
        if ended:
            goes_on = ~done
            for obs, final_obs in self._to_patch:
                obs[goes_on] = final_obs[goes_on]
        new = self._transfer.take(self._with_obs if ended else self._without_obs)
        final = self._observation(new, FINAL)
        return VecStep(
            self._observation(new, OBS) if ended else final,
            new["reward"],
            new["terminated"],
            new["truncated"],
            final,
            new["episode_return"],
            new["episode_length"],
            self._info(new),
        )

    def _observation(self, new: dict[str, Tensor], prefix: str) -> Observation:
        return new[prefix] if self._names is None else {name: new[prefix + name] for name in self._names}

    def _info(self, new: dict[str, Tensor]) -> dict[str, Tensor]:
        if not self._has_success:
            self._has_success = not np.isnan(self._arrays[SUCCESS]).all()
        return {SUCCESS: new[SUCCESS]} if self._has_success else {}

    def render(self, index: int = 0) -> np.ndarray:
        """A picture (H, W, 3) uint8 of environment ``index``, made with ``render``.

        Raises:
            ConfigError: It gives no picture.
        """
        assert isinstance(self._crew, Loop)
        with named_errors(self.spec.id):
            picture = self._crew.render(index)
        if not isinstance(picture, np.ndarray) or picture.ndim != 3:
            raise ConfigError(f"'{self.spec.id}' draws no picture.", "Its render() must return an array (H, W, 3).")
        return picture

    def state_dict(self) -> dict[str, Any]:
        """Empty: what a Gymnasium environment remembers is its own affair."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing can be put back."""

    def close(self) -> None:
        """Closes the environments and ends the workers."""
        self._crew.close()


def block_fields(num_envs: int, leaves: list[Leaf], actions: Actions) -> dict[str, Any]:
    """What goes to the device after every step, then ``obs``, which goes where an episode ended, then the actions."""
    real, whole, flag = np.dtype(np.float32), np.dtype(np.int64), np.dtype(np.bool_)
    kinds = {"reward": real, "episode_return": real, SUCCESS: real, "episode_length": whole}
    kinds |= {"terminated": flag, "truncated": flag}
    return {
        **{name: (kind, (num_envs,)) for name, kind in kinds.items()},
        **{FINAL + leaf.name: (leaf.dtype, (num_envs, *leaf.shape)) for leaf in leaves},
        **{OBS + leaf.name: (leaf.dtype, (num_envs, *leaf.shape)) for leaf in leaves},
        "action": (actions.dtype, (num_envs, *_shape(actions.space))),
    }


def _shape(space: spaces.Space) -> tuple[int, ...]:
    return space.shape or ()


def choose(recipe: Recipe, env: gymnasium.Env, num_envs: int, wanted: str, native: bool) -> tuple[str, int]:
    """How N environments are stepped fastest, and by how many processes.

    Raises:
        ConfigError: ``vector`` is wanted, and there is none that resets in the same step.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    most = min(num_envs, cores)
    if wanted == "vector" and not native:
        raise ConfigError(
            f"'{recipe.spec.id}' has no vector form that has its spaces and resets in the step that ends an episode.",
            "Use --env.vectorization sync or async.",
        )
    if native:
        return "vector", 1
    if wanted == "async" and num_envs > 1:
        return "async", max(most, 2)
    if wanted != "auto" or most == 1 or recipe.render_mode is not None:
        return "sync", 1
    key = repr(recipe)
    if key not in _trials:
        _trials[key] = seconds_per_step(env)
    alone = num_envs * _trials[key]
    processes = min(range(1, most + 1), key=lambda p: alone / p + WORKER_COST * (p - 1))
    return ("async" if processes > 1 else "sync"), processes


@global_kept()
def seconds_per_step(env: gymnasium.Env) -> float:
    """The mean over random steps, resets included.

    Raises:
        ConfigError: The environment fails.
    """
    begin, steps = time.perf_counter(), 0
    try:
        env.action_space.seed(0)
        env.reset(seed=0)
        while (passed := time.perf_counter() - begin) < TRIAL_SECONDS and steps < TRIAL_STEPS:
            _, _, terminated, truncated, _ = env.step(env.action_space.sample())
            if terminated or truncated:
                env.reset()
            steps += 1
    except Exception as error:
        name, reason = env.spec.id if env.spec else type(env).__name__, f"{type(error).__name__}: {error}".rstrip(".")
        raise ConfigError(f"'{name}' fails in its first steps: {reason}.", "--debug shows where.") from error
    return passed / max(steps, 1)
