"""A loop over Gymnasium environments, which reads and writes arrays that it does not own."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np

from rltrain.adapters.given import NotAsPromised, Part, flag_of, info_of, reward_of
from rltrain.adapters.masks import MaskInObservation
from rltrain.adapters.progress import Guard, Hanging, Progress, make_places
from rltrain.adapters.rewards import WeightedReward
from rltrain.adapters.spaces import Actions, Leaf
from rltrain.errors import RunError
from rltrain.naming.reasons import fix_at, reason_of
from rltrain.process import stopping

OBS, FINAL, INFO = "obs:", "final_obs:", "info:"  # before the names of leaves, and of numbers in info
SUCCESS = "is_success"
ADVICE = ("Box (low|high)'s precision", "A Box .* space (minimum|maximum)", "The environment creator metadata")
"""How Gymnasium's remarks begin that only the author of an environment can do something about."""
NUMBERS, FLAGS = {float, int, bool, np.float32, np.float64}, {bool, np.bool_}  # types that need no closer look


@dataclass(frozen=True)
class Recipe:
    """How to make an environment, in any process.

    Attributes:
        spec: Gymnasium's registration.
        kwargs: Constructor arguments.
        max_episode_steps: Time limit in steps; the registered one when None.
        atari: Whether to prepare Atari frames.
        render_mode: None, ``"rgb_array"`` or ``"rgb_array_list"``.
        reward_weights: Weights of the parts of a vector reward.
        mask_size: Entries of a mask that the environment gives outside its observation; 0 for none.
        log_info: Names of numbers in info that are wanted.
    """

    spec: Any
    kwargs: dict[str, Any]
    max_episode_steps: int | None = None
    atari: bool = False
    render_mode: str | None = None
    reward_weights: tuple[float, ...] | None = None
    mask_size: int = 0
    log_info: tuple[str, ...] = ()

    def make(self) -> gymnasium.Env:
        """Makes an environment."""
        kwargs = dict(self.kwargs)
        if self.atari:
            kwargs.setdefault("frameskip", 1)
        if self.render_mode is not None:
            kwargs["render_mode"] = self.render_mode
        limit = self.max_episode_steps
        with warnings.catch_warnings():  # advice to its author, which 'rltrain check' gives
            warnings.filterwarnings("ignore", message=f".*WARN: ({'|'.join(ADVICE)})", category=UserWarning)
            env = gymnasium.make(
                self.spec, max_episode_steps=None if limit is None else -1, disable_env_checker=True, **kwargs
            )
        if self.atari:
            env = gymnasium.wrappers.AtariPreprocessing(env)
        if self.reward_weights is not None:
            env = WeightedReward(env, self.reward_weights)
        if limit is not None:
            env = gymnasium.wrappers.TimeLimit(env, limit)
        return MaskInObservation(env, self.mask_size) if self.mask_size else env


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
        progress: Where to write which environment is being stepped.
    """

    seeds_each = True  # reset() gives every environment a seed of its own

    def __init__(
        self,
        recipe: Recipe,
        rows: range,
        leaves: Sequence[Leaf],
        actions: Actions,
        arrays: dict[str, np.ndarray],
        *,
        autoreset: bool = True,
        progress: Progress | None = None,
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
        self.info = [(name, own[INFO + name]) for name in recipe.log_info]
        self.obs = [Part(own[OBS + leaf.name], leaf) for leaf in leaves]
        self.final_obs = [Part(own[FINAL + leaf.name], leaf) for leaf in leaves]
        self._categories = [part for part in self.final_obs if part.low is not None and not part.scalar]
        self.progress = progress or Progress(make_places(1), 0, len(rows))
        self._steps = 0  # since the last reset of all
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
            RunError: An environment failed, or gave what its space does not have.
        """
        self._return[:] = 0.0
        self._length[:] = 0
        self._steps = 0
        turn = self.progress.turn()
        for i, seed in zip(range(len(self.envs)), seeds, strict=True):
            self._reset(i, turn, seed=seed)
        self.progress.rest()

    def step(self) -> None:
        """Steps every environment with its row of ``action``.

        Raises:
            RunError: An environment failed, or gave what its spaces do not have.
        """
        actions = self.actions.rows(self.action)
        reward, terminated, truncated, success = self.reward, self.terminated, self.truncated, self.success
        success.fill(np.nan)
        wanted = self.info
        final_obs, places, own, turn = self.final_obs, self.progress.places, self.progress.own, self.progress.turn()
        self._steps += 1
        ended = []
        i = -1
        try:
            for i, env in enumerate(self.envs):
                places[own] = turn + i
                obs, gain, terminal, cut, info = env.step(actions[i])
                for part in final_obs:
                    part.write(i, obs)
                reward[i] = gain if gain.__class__ in NUMBERS else reward_of(gain)
                terminated[i] = terminal if terminal.__class__ in FLAGS else flag_of("terminated", terminal)
                truncated[i] = cut if cut.__class__ in FLAGS else flag_of("truncated", cut)
                if info.__class__ is not dict:
                    info = info_of(info)
                if SUCCESS in info:
                    success[i] = info[SUCCESS]
                for name, column in wanted:
                    column[i] = number_in(info, name)
                if terminal or cut:
                    ended.append(i)
            for part in self._categories:
                part.check_range(part.array)
        except stopping.Stopped:
            self.progress.rest()
            raise
        except (Exception, SystemExit) as error:
            raise self._failed(i, error, "step") from error
        np.greater(truncated, terminated, out=truncated)
        self._return += reward
        self._length += 1
        self.episode_return[:] = self._return
        self.episode_length[:] = self._length
        for i in ended:
            self._return[i], self._length[i] = 0.0, 0
            if self.autoreset:
                self._reset(i, turn)
            else:
                for part, final in zip(self.obs, final_obs, strict=True):
                    part.array[i] = final.array[i]
        self.progress.rest()

    def _reset(self, i: int, turn: int, **options: Any) -> None:
        self.progress.places[self.progress.own] = turn + i
        try:
            obs, _ = self.envs[i].reset(**options)
            for part in self.obs:
                part.write(i, obs)
                part.check_range(part.array[i : i + 1])
        except stopping.Stopped:
            self.progress.rest()
            raise
        except (Exception, SystemExit) as error:
            raise self._failed(i, error, "reset") from error

    def render(self, index: int) -> Any:
        """A picture of the environment in a row."""
        return self.envs[index - self.rows.start].render()

    def guard(self, name: str) -> Guard:
        """Begins to warn of environments that hang; ``name`` is what they are called."""
        return Guard(self, Hanging(self.progress.places, [self.rows], name))

    def where(self) -> int:
        """A number that changes with every environment that is stepped."""
        return int(self.progress.places[self.progress.own])

    def close(self) -> None:
        """Closes the environments."""
        while self.envs:
            close_quietly(self.envs.pop())

    def _failed(self, i: int, error: BaseException, what: str) -> RunError:
        self.progress.rest()  # it does not hang
        if isinstance(error, NotAsPromised):
            row, when = self.rows[i if error.row is None else error.row], f" {self._steps:,}" if self._steps else ""
            return RunError(
                f"Environment {row} broke its promise in {what}{when}: {error}.",
                "Mend the environment, or its spaces; 'rltrain check' looks through both.",
            )
        return RunError(f"Environment {self.rows[i]} failed in {what}: {reason_of(error)}.", fix_at(error))


def number_in(info: dict[str, Any], name: str) -> float:
    """A number in info; NaN if there is none of this name."""
    try:
        return float(np.asarray(info[name]).item())
    except (KeyError, TypeError, ValueError):
        return math.nan


def close_quietly(env: gymnasium.Env | gymnasium.vector.VectorEnv) -> None:
    """Closes an environment and ignores errors, such as those of a viewer that was never opened, and ``sys.exit()``."""
    with suppress(Exception, SystemExit):
        env.close()
