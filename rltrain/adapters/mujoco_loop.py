"""Gymnasium's MuJoCo tasks stepped by threads of this process, row by row as Gymnasium's own environments.

An environment of Gymnasium's spends much of a step in Python. Here Python only calls MuJoCo's ``mj_step`` for each row,
during which other threads run, and :mod:`rltrain.adapters.mujoco_tasks` does the rest for all rows at once. Episodes
begin by Gymnasium's own ``reset``. Unlike a loop over Gymnasium's environments, it can be saved.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

from rltrain.adapters.loop import FINAL, INFO, OBS, SUCCESS, Recipe, close_quietly, number_in
from rltrain.adapters.mujoco_tasks import TASKS, Outcome
from rltrain.adapters.spaces import Actions
from rltrain.devices import cores
from rltrain.errors import RunError
from rltrain.naming.reasons import fix_at, reason_of
from rltrain.rng import numpy_generator, numpy_state

TRIAL_STEPS = 50
"""Steps of a trial, enough for random actions to bring a walker down."""
CLOSE = 1e-6  # of a number in the trial, relative to 1 or to the number; only the last bits may differ
ROWS = 2
"""Rows that a thread is worth waking for."""

_agree: dict[str, bool] = {}
"""Whether the task of a recipe agreed with Gymnasium's in a trial."""


class Simulations:
    """N simulations of one model, and the task that they are.

    Args:
        recipe: How Gymnasium's environment is made.
        env: Such an environment, whose model they share.
        num_envs: N.
    """

    def __init__(self, recipe: Recipe, env: gymnasium.Env, num_envs: int) -> None:
        import mujoco

        self.mujoco: Any = mujoco
        plain: Any = env.unwrapped
        defaults = {name: each.default for name, each in inspect.signature(type(plain).__init__).parameters.items()}
        self.task = TASKS[path_of(plain)](plain, {**defaults, **recipe.spec.kwargs, **recipe.kwargs})
        self.model, self.frame_skip = plain.model, plain.frame_skip
        self.data = [mujoco.MjData(self.model) for _ in range(num_envs)]
        self.everything = mujoco.mjtState.mjSTATE_INTEGRATION
        self.now: dict[str, np.ndarray] = {}
        for name in self.task.fields:
            self.now[name] = np.zeros((num_envs, *getattr(self.data[0], name).shape))
        self._reads = [
            [(self.now[name][row], getattr(data, name)) for name in self.task.fields]
            for row, data in enumerate(self.data)
        ]
        self._threads = max(min(cores(), num_envs // ROWS), 1)
        bounds = np.linspace(0, num_envs, self._threads + 1).astype(int).tolist()
        self._shares = [range(*pair) for pair in pairwise(bounds)]
        self._pool: ThreadPoolExecutor | None = None

    def take(self, row: int, env: Any) -> None:
        """Puts one of Gymnasium's environments as it is into a row."""
        state = np.empty(self.mujoco.mj_stateSize(self.model, self.everything))
        self.mujoco.mj_getState(self.model, env.data, state, self.everything)
        self.mujoco.mj_setState(self.model, self.data[row], state, self.everything)
        for name in self.task.fields:
            self.now[name][row] = getattr(env.data, name)

    def step(self, action: np.ndarray) -> Outcome:
        """Steps all rows by their actions (N, A).

        Raises:
            RunError: MuJoCo failed.
        """
        before = self.task.place(self.now)
        self.now["action"] = action
        if self._pool is None and self._threads > 1:  # here, because processes may be forked before the first step
            self._pool = ThreadPoolExecutor(self._threads - 1, "mujoco")
        others = [self._pool.submit(self._advance, share, action) for share in self._shares[1:]] if self._pool else []
        try:
            self._advance(self._shares[0], action)
        finally:
            failures = [other.exception() for other in others]
        for failure in failures:
            if failure is not None:
                raise failure
        return self.task.outcome(before, self.now)

    def _advance(self, share: range, action: np.ndarray) -> None:
        model, frame_skip, forces = self.model, self.frame_skip, self.task.forces
        step, add_forces, copy = self.mujoco.mj_step, self.mujoco.mj_rnePostConstraint, np.copyto
        row = -1
        try:
            for row in share:
                data = self.data[row]
                data.ctrl = action[row]
                step(model, data, frame_skip)
                if forces:
                    add_forces(model, data)
                for array, source in self._reads[row]:
                    copy(array, source)
        except Exception as error:
            raise RunError(f"Environment {row} failed in step: {reason_of(error)}.", fix_at(error)) from error

    def state_dict(self) -> dict[str, Tensor]:
        """The state of every row, and what the next step needs of the last one."""
        states = np.empty((len(self.data), self.mujoco.mj_stateSize(self.model, self.everything)))
        for data, state in zip(self.data, states, strict=True):
            self.mujoco.mj_getState(self.model, data, state, self.everything)
        fields = {name: torch.from_numpy(self.now[name].copy()) for name in self.task.fields}
        return {"mujoco": torch.from_numpy(states), **fields}

    def load_state_dict(self, saved: dict[str, Tensor]) -> None:
        """Continues where :meth:`state_dict` was taken.

        Raises:
            ValueError: It is of another model, or of another version of MuJoCo.
        """
        expected = {name: tensor.shape for name, tensor in self.state_dict().items()}
        if {name: tensor.shape for name, tensor in saved.items()} != expected:
            raise ValueError("the saved simulations are of another model or of another version of MuJoCo")
        for data, state in zip(self.data, saved["mujoco"].cpu().numpy(), strict=True):
            self.mujoco.mj_setState(self.model, data, state, self.everything)
        for name in self.task.fields:
            self.now[name][:] = saved[name].cpu().numpy()

    def close(self) -> None:
        """Ends the threads."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None


class MujocoLoop:
    """Does what a :class:`~rltrain.adapters.loop.Loop` does, with the same random streams.

    Args:
        recipe: How Gymnasium's environment is made; one for which :func:`fits` holds.
        num_envs: N.
        actions: The conversion of actions.
        arrays: As for the loop.
    """

    seeds_each = True  # reset() gives every environment a seed of its own

    def __init__(self, recipe: Recipe, num_envs: int, actions: Actions, arrays: dict[str, np.ndarray]) -> None:
        self.actions, self.arrays, self.log_info = actions, arrays, recipe.log_info
        self.limit = recipe.max_episode_steps or recipe.spec.max_episode_steps
        self.env: Any = recipe.make()  # which begins the episodes of all rows
        self.simulations = Simulations(recipe, self.env, num_envs)
        self._generators: list[np.random.Generator] = []
        self._return = np.zeros(num_envs)  # of the running episodes
        self._length = np.zeros(num_envs, dtype=np.int64)
        arrays[SUCCESS].fill(np.nan)

    def reset(self, seeds: Sequence[int]) -> None:
        """Starts every environment anew, each with a seed."""
        self._return[:] = 0.0
        self._length[:] = 0
        self._generators = []
        for row, seed in enumerate(seeds):
            self._begin(row, seed=seed)
            self._generators.append(self.env.unwrapped.np_random)

    def step(self) -> None:
        """Steps every environment, and resets those whose episode ends.

        Raises:
            RunError: MuJoCo failed.
        """
        arrays, simulations = self.arrays, self.simulations
        reward, terminated, info = simulations.step(self.actions.to_env(arrays["action"]))
        arrays["reward"][:], arrays["terminated"][:] = reward, terminated
        arrays[FINAL][:] = simulations.task.observe(simulations.now)
        for name in self.log_info:
            arrays[INFO + name][:] = info.get(name, np.nan)
        self._return += arrays["reward"]
        self._length += 1
        arrays["episode_return"][:], arrays["episode_length"][:] = self._return, self._length
        cut = False if self.limit is None else self._length >= self.limit
        np.greater(cut, terminated, out=arrays["truncated"])
        for row in np.flatnonzero(arrays["terminated"] | arrays["truncated"]).tolist():
            self._return[row], self._length[row] = 0.0, 0
            self.env.unwrapped.np_random = self._generators[row]
            self._begin(row)

    def _begin(self, row: int, **options: Any) -> None:
        plain = self.env.unwrapped
        self.arrays[OBS][row], _ = plain.reset(**options)
        self.simulations.take(row, plain)

    def state_dict(self) -> dict[str, Any]:
        """The simulations, the random streams and the statistics of the running episodes."""
        return {
            "simulations": self.simulations.state_dict(),
            "generators": torch.stack([numpy_state(generator) for generator in self._generators]),
            "return": torch.from_numpy(self._return.copy()),
            "length": torch.from_numpy(self._length.copy()),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where :meth:`state_dict` was taken.

        Raises:
            ValueError: It is of another number of environments, another model or another version of MuJoCo.
        """
        self.simulations.load_state_dict(state["simulations"])
        self._generators = [numpy_generator(saved) for saved in state["generators"]]
        self._return[:] = state["return"].cpu().numpy()
        self._length[:] = state["length"].cpu().numpy()

    def close(self) -> None:
        """Ends the threads."""
        self.simulations.close()
        close_quietly(self.env)


def fits(recipe: Recipe, env: gymnasium.Env) -> bool:
    """Whether an environment is one of the tasks, and its rows step as Gymnasium's own in a trial.

    Another version of Gymnasium may have other formulas: then it is left to a loop.

    Args:
        recipe: How the environment is made.
        env: One that was made so; it is stepped.
    """
    plain: Any = env.unwrapped
    around = recipe.spec.additional_wrappers or recipe.atari or recipe.render_mode or recipe.reward_weights
    if path_of(plain) not in TASKS or around or recipe.mask_size:
        return False
    key = repr(recipe)
    if key not in _agree:
        try:
            _agree[key] = agrees(recipe, plain)
        except Exception:  # an old MuJoCo, say, which lacks a function
            _agree[key] = False
    return _agree[key]


def agrees(recipe: Recipe, plain: Any) -> bool:
    """Whether every step of a trial gives what Gymnasium's environment gives."""
    simulations = Simulations(recipe, plain, 1)
    plain.reset(seed=0)
    simulations.take(0, plain)
    rng, space = np.random.default_rng(0), plain.action_space
    for _ in range(TRIAL_STEPS):
        action = rng.uniform(space.low, space.high, (1, *space.shape)).astype(space.dtype)
        obs, reward, terminated, _, info = plain.step(action[0])
        ours, ended, numbers = simulations.step(action)
        told = {name: number_in(info, name) for name in numbers}
        pairs = [(simulations.task.observe(simulations.now)[0], obs), (ours[0], reward), (ended[0], terminated)]
        pairs += [(numbers[name][0], told[name]) for name in numbers]
        if not all(np.allclose(mine, theirs, CLOSE, CLOSE, equal_nan=True) for mine, theirs in pairs):
            return False
    return True


def path_of(env: Any) -> str:
    """``module:Class`` of an environment."""
    return f"{type(env).__module__}:{type(env).__qualname__}"
