"""Any Gymnasium environment as a vector environment."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces

from rltrain.adapters import mujoco_loop
from rltrain.adapters.block import Block
from rltrain.adapters.goals import HostGoals
from rltrain.adapters.gymnasium_ids import make_recipe, named_errors
from rltrain.adapters.host_vec import HostEnvs, HostVecEnv, block_fields
from rltrain.adapters.kinds import try_out
from rltrain.adapters.loop import Loop, Recipe, close_quietly
from rltrain.adapters.masks import MaskInObservation, MaskReader, advice_on_masks
from rltrain.adapters.native import NativeLoop, find_native
from rltrain.adapters.progress import guarded
from rltrain.adapters.rewards import check_objectives
from rltrain.adapters.spaces import Actions, observation_leaves
from rltrain.adapters.workers import Workers
from rltrain.devices import cores
from rltrain.errors import ConfigError
from rltrain.naming.reasons import fix_at, reason_of
from rltrain.registry import EnvSpec
from rltrain.rng import global_kept

TRIAL_SECONDS, TRIAL_STEPS = 0.2, 200
WORKER_COST = 60e-6
"""Seconds that each worker adds to a step: for the message, waking up, and the answer."""

_trials: dict[str, float] = {}
"""Seconds per step measured by trials, by recipe."""


class GymVecEnv(HostVecEnv):
    """N Gymnasium environments behind :class:`~rltrain.vec.VecEnv`, each reset in the step that ends its episode.

    Args:
        spec: Its registration.
        num_envs: N.
        device: Device of the tensors.
        dtype: Floating-point type of observations.
        max_episode_steps: Time limit in steps; the registered one when None.
        render: Make an environment to be drawn, which stays as it is at the end of an episode.
        vectorization: ``sync``: a loop in this process; ``async``: shared with worker processes, one for each further
            core; ``vector``: the environment's own vector form, if that resets in the same step, or ours of MuJoCo's
            tasks; ``auto``: the latter if there is one, else as many workers as pay off in a trial of a fifth of a
            second, possibly none. Random streams do not depend on the number of workers.
        start_method: Start method of workers: ``fork``, ``spawn`` or ``forkserver``; Python's own choice when None.
        step_timeout: Seconds that an environment may take for a step; then workers step all of them, and one that takes
            longer is an error. None for no limit. What is drawn has no limit.
        atari: Whether to prepare Atari frames: 84x84 in gray, every fourth, up to 30 random steps at the start.
        reward_weights: Weights that make one number of a reward that is a vector.
        action_masks: Whether a mask that the environment gives in ``info["action_mask"]`` or by ``action_masks()``
            becomes the entry ``action_mask`` of the observation.
        log_info: Names of numbers in info that are wanted as tensors.
        **kwargs: Constructor arguments of the environment.

    Raises:
        ConfigError: The environment cannot be made, or its spaces cannot be tensors.
    """

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
        step_timeout: float | None = None,
        atari: bool = False,
        reward_weights: Sequence[float] | None = None,
        action_masks: bool = True,
        log_info: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        recipe = make_recipe(spec, kwargs, max_episode_steps, atari=atari, render=render, reward_weights=reward_weights)
        real = np.dtype(str(dtype or torch.float32).removeprefix("torch."))
        with named_errors(spec.id), ExitStack() as stack:
            first = recipe.make()
            stack.callback(close_quietly, first)
            check_objectives(first, reward_weights, spec.id)
            actions = Actions.for_space(first.action_space)
            leaves, self.left_out = observation_leaves(first.observation_space, real)
            key = recipe.spec.entry_point, repr(replace(recipe, max_episode_steps=None))
            if size := try_out(first, spec.id, key, masks=action_masks, leaves=leaves, weights=reward_weights):
                recipe = replace(recipe, mask_size=size)
                first = MaskInObservation(first, size)
                leaves, _ = observation_leaves(first.observation_space, real)
            if atari:  # an image with one channel
                leaves = [replace(leaf, space=spaces.Box(0, 255, (1, *leaf.shape), np.uint8)) for leaf in leaves]
            recipe = replace(recipe, log_info=tuple(log_info))
            as_vector = not (render or step_timeout) and vectorization in ("auto", "vector")
            native = find_native(recipe, first, num_envs) if as_vector else None
            batched = as_vector and mujoco_loop.fits(recipe, first)
            self.vectorization, processes = choose(
                recipe, first, num_envs, vectorization, native is not None or batched, limited=step_timeout is not None
            )

        goals = HostGoals(recipe.make, spec.id)
        self._goals = goals
        known = first.unwrapped
        self.compute_reward = goals.reward if hasattr(known, "compute_reward") else None
        self.compute_terminated = goals.terminated if hasattr(known, "compute_terminated") else None

        def make_envs(block: Block) -> HostEnvs:
            arrays = block.arrays
            if batched:
                return mujoco_loop.MujocoLoop(recipe, num_envs, actions, arrays)
            if native is not None and self.vectorization == "vector":
                return NativeLoop(native, leaves, actions, arrays, recipe.log_info)
            if self.vectorization == "async":
                fields = block_fields(num_envs, leaves, actions, recipe.log_info)
                return Workers(
                    recipe,
                    num_envs,
                    leaves,
                    actions,
                    fields,
                    block,
                    processes=processes,
                    start_method=start_method,
                    step_timeout=step_timeout,
                )
            return Loop(recipe, range(num_envs), leaves, actions, arrays, autoreset=not render)

        super().__init__(
            spec,
            num_envs,
            first.observation_space,
            leaves,
            actions,
            make_envs,
            device=device,
            max_episode_steps=max_episode_steps or spec.max_episode_steps,
            render_fps=float(first.metadata.get("render_fps") or 30),
            log_info=recipe.log_info,
        )

    def close(self) -> None:
        """Closes all environments."""
        super().close()
        self._goals.close()


def choose(
    recipe: Recipe, env: gymnasium.Env, num_envs: int, wanted: str, native: bool, *, limited: bool = False
) -> tuple[str, int]:
    """Chooses how to step N environments fastest, and by how many processes.

    Raises:
        ConfigError: ``vector`` is asked for, and there is no vector form that resets in the same step; or ``sync`` or
            ``vector`` is, and there is a time limit, which only workers keep.
    """
    most = min(num_envs, cores())
    if limited and recipe.render_mode is None:
        if wanted not in ("auto", "async"):
            raise ConfigError(
                f"Only workers keep a time limit, and vectorization={wanted} has none.",
                "Use --env.vectorization async, or leave --env.step-timeout out.",
            )
        return "async", most + 1
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
    key = repr(replace(recipe, max_episode_steps=None))
    if key not in _trials:
        with guarded(recipe.spec.id):
            _trials[key] = seconds_per_step(env)
    alone = num_envs * _trials[key]
    processes = min(range(1, most + 1), key=lambda p: alone / p + WORKER_COST * (p - 1))
    return ("async" if processes > 1 else "sync"), processes


@global_kept()
def seconds_per_step(env: gymnasium.Env) -> float:
    """Mean seconds per random step that the mask allows, resets included.

    Raises:
        ConfigError: The environment fails.
    """
    begin, steps = time.perf_counter(), 0
    reader = MaskReader(env)
    info: dict[str, Any] = {}
    try:
        env.action_space.seed(0)
        _, info = reader.reset(seed=0)
        while (passed := time.perf_counter() - begin) < TRIAL_SECONDS and steps < TRIAL_STEPS:
            _, _, terminated, truncated, _ = reader.step(reader.sample())
            if terminated or truncated:
                reader.reset()
            steps += 1
    except (Exception, SystemExit) as error:
        name = env.spec.id if env.spec else type(env).__name__
        cause = f"'{name}' fails in its first steps: {reason_of(error)}."
        raise ConfigError(cause, f"{fix_at(error)}{advice_on_masks(env, info)}") from error
    return passed / max(steps, 1)
