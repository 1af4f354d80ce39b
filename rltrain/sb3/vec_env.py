"""Our environments as a ``VecEnv`` of Stable-Baselines3, in NumPy."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv as SB3Base
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn
from torch import Tensor

from rltrain.adapters.to_gymnasium import row, to_batch, to_numpy
from rltrain.env import Observation, TensorEnv
from rltrain.errors import ConfigError
from rltrain.make import make_vec
from rltrain.rng import derive_seed
from rltrain.sb3.spaces import Adapted
from rltrain.spaces import MASK
from rltrain.tree import tree_map
from rltrain.vec import VecEnv, VecStep

TRUNCATED = "TimeLimit.truncated"


class Infos(Sequence[dict[str, Any]]):
    """The infos of a step. A row's dict is made when it is first read, and then kept.

    Args:
        step: The step; valid until the next.
        ended: By index, the infos of rows whose episode ended.
    """

    def __init__(self, step: VecStep, ended: dict[int, dict[str, Any]]) -> None:
        self._info = step.info
        self._size = step.reward.shape[0]
        self._rows: dict[int, dict[str, Any]] = {}
        for index, extra in ended.items():
            self._rows[index] = {**self._at(index), **extra}

    @cached_property
    def _columns(self) -> dict[str, list[Any]]:
        return {name: values.tolist() for name, values in self._info.items()}

    def _at(self, index: int) -> dict[str, Any]:
        info: dict[str, Any] = {TRUNCATED: False}
        for name, column in self._columns.items():
            info[name] = column[index]
        return info

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self._row(i) for i in range(*index.indices(self._size))]
        return self._row(range(self._size)[index])  # negative ones count from the end, those outside raise

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return map(self._row, range(self._size))

    def _row(self, index: int) -> dict[str, Any]:
        known = self._rows.get(index)
        if known is None:
            known = self._rows[index] = self._at(index)
        return known


class SB3VecEnv(SB3Base):
    """N environments stepped together, as Stable-Baselines3's algorithms and wrappers take them.

    Where an episode ended, ``infos[i]`` holds ``terminal_observation``, ``TimeLimit.truncated`` and the ``episode``
    that a ``Monitor`` would write; :meth:`env_is_wrapped` says so. Environments with an action mask answer
    ``env_method("action_masks")``, which sb3-contrib's ``MaskablePPO`` asks for.

    The rows share one environment: an attribute is the same for all, and :meth:`set_attr` sets it for all.

    Args:
        vec: The environments, which must not be used elsewhere from here on.
        render_mode: None or ``"rgb_array"``.

    Raises:
        ConfigError: There is no such render mode, or the environment cannot be drawn.
    """

    def __init__(self, vec: VecEnv, *, render_mode: str | None = None) -> None:
        self.vec = vec
        self.env: Any = getattr(vec, "env", None)  # the TensorEnv, where there is one
        drawable = hasattr(vec, "render") and not (
            isinstance(self.env, TensorEnv) and type(self.env).render is TensorEnv.render
        )
        modes = ["rgb_array"] if drawable else []
        if render_mode is not None and render_mode not in modes:
            raise ConfigError(
                f"There is no render_mode={render_mode!r} here.", f"There is: {', '.join(map(repr, [None, *modes]))}."
            )
        self.render_mode = render_mode
        self.adapted = Adapted(vec.single_observation_space, vec.single_action_space)
        super().__init__(vec.num_envs, self.adapted.observation_space, self.adapted.action_space)
        self.metadata: dict[str, Any] = {**self.metadata, "render_fps": getattr(self.env, "render_fps", 30)}
        self._rng = np.random.default_rng()
        self._actions: Tensor | None = None
        self._masks: np.ndarray | None = None
        self._began = time.monotonic()

    def reset(self) -> VecEnvObs:
        """Starts every environment anew: from the seed if one was given since the last time, else at random."""
        if self._seeds[0] is not None:
            self._rng = np.random.default_rng(derive_seed(self._seeds[0], "sb3"))
            first = self._seeds[0]
        else:
            first = int(self._rng.integers(2**63))
        self._reset_seeds()
        self._reset_options()
        return self._observe(self.vec.reset(first))

    def step_async(self, actions: np.ndarray) -> None:
        """Takes the actions (N, *A); those of a Box are clipped to it.

        Raises:
            InvalidAction: They are not actions of this space, or not N.
        """
        space = self.vec.single_action_space
        array = self.adapted.action(np.asarray(actions)).astype(space.dtype, copy=False)
        self._actions = to_batch(space, array, self.num_envs, self.vec.device)

    def step_wait(self) -> VecEnvStepReturn:
        """Steps every environment; one that ends its episode is reset in the same step."""
        if self._actions is None:
            raise RuntimeError("call step_async(actions) first")
        step, self._actions = self.vec.step(self._actions), None
        truncated = step.truncated.cpu().numpy()
        done = step.terminated.cpu().numpy() | truncated
        ended = self._ended(step, np.flatnonzero(done), truncated) if done.any() else {}
        reward = step.reward.to("cpu", torch.float32, copy=True).numpy()
        return self._observe(step.obs), reward, done, Infos(step, ended)  # type: ignore[return-value]

    def _ended(self, step: VecStep, rows: np.ndarray, truncated: np.ndarray) -> dict[int, dict[str, Any]]:
        """The ``infos`` of rows whose episode ended, by row."""
        index = torch.from_numpy(rows).to(self.vec.device)
        last = self._arrays(tree_map(lambda part: part[index], step.final_obs))
        returns, lengths = step.episode_return[index].tolist(), step.episode_length[index].tolist()
        now = round(time.monotonic() - self._began, 6)
        return {
            i: {
                TRUNCATED: bool(truncated[i]),
                "terminal_observation": row(last, k),
                "episode": {"r": returns[k], "l": lengths[k], "t": now},
            }
            for k, i in enumerate(rows.tolist())
        }

    def _arrays(self, observation: Observation) -> Any:
        return self.adapted.obs(to_numpy(observation, self.vec.single_observation_space))

    def _observe(self, observation: Observation) -> Any:
        arrays = self._arrays(observation)
        if isinstance(arrays, dict):
            self._masks = arrays.get(MASK)
        return arrays

    def get_images(self) -> Sequence[np.ndarray | None]:
        """A picture (H, W, 3) uint8 of every environment."""
        if self.render_mode is None:
            return [None] * self.num_envs
        return [self.vec.render(i).cpu().numpy() for i in range(self.num_envs)]

    def close(self) -> None:
        """Releases what the environments hold."""
        self.vec.close()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """An attribute of the environment, once for each of ``indices``; a constant as a number.

        Raises:
            AttributeError: It has none of that name.
        """
        if attr_name == "render_mode":
            value: Any = self.render_mode
        elif attr_name == "action_masks" and self._has_masks():
            value = self._action_masks
        else:
            value = getattr(self._owner(attr_name), attr_name)
        if isinstance(value, Tensor) and value.dim() == 0:  # a constant
            value = value.item()
        return [value for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Sets an attribute of the environment; a number becomes a tensor where there is one.

        Raises:
            ValueError: ``indices`` names only some of the environments.
        """
        if set(self._get_indices(indices)) != set(range(self.num_envs)):
            raise ValueError(f"{attr_name} cannot be set for some rows: they share one environment")
        owner = self._owner(attr_name) if self.has_attr(attr_name) else self.env or self.vec
        before = getattr(owner, attr_name, None)
        if isinstance(before, Tensor):
            value = torch.as_tensor(value, dtype=before.dtype, device=before.device)
        setattr(owner, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Calls a method of the environment once, and returns the answer for each of ``indices``.

        ``render`` and ``action_masks`` answer row by row.

        Raises:
            AttributeError: It has none of that name.
        """
        rows = list(self._get_indices(indices))
        if method_name == "render":
            return [self.get_images()[i] for i in rows]
        answer = self.get_attr(method_name, 0)[0](*method_args, **method_kwargs)
        return [answer[i] if method_name == "action_masks" else answer for i in rows]

    def env_is_wrapped(self, wrapper_class: Any, indices: VecEnvIndices = None) -> list[bool]:
        """True for ``Monitor``, whose work is done here, and for nothing else."""
        return [wrapper_class is Monitor for _ in self._get_indices(indices)]

    def _owner(self, name: str) -> Any:
        for each in (self.env, self.vec):
            if each is not None and hasattr(each, name):
                return each
        raise AttributeError(f"'{type(self.env or self.vec).__name__}' has no attribute '{name}'")

    def _has_masks(self) -> bool:
        return isinstance(self.observation_space, spaces.Dict) and MASK in self.observation_space.spaces

    def _action_masks(self) -> np.ndarray:
        """(N, n_actions) bool: what is allowed now."""
        if self._masks is None:
            raise RuntimeError("call reset() first")
        return self._masks.astype(bool)


def make_sb3_vec(
    env: str | type[TensorEnv],
    num_envs: int,
    *,
    device: torch.device | str = "cpu",
    seed: int | None = None,
    render_mode: str | None = None,
    **kwargs: Any,
) -> SB3VecEnv:
    """Makes N environments for Stable-Baselines3, stepped together on ``device``.

    Args:
        env: A registered id, or a :class:`~rltrain.env.TensorEnv` class.
        num_envs: N.
        device: Device on which the environments compute; observations are NumPy arrays in any case.
        seed: Seed of the first reset; None for a random one.
        render_mode: None or ``"rgb_array"``.
        **kwargs: ``max_episode_steps``, ``dtype`` and constructor arguments of the environment.

    Raises:
        ConfigError: The id, the render mode or a constructor argument is not known, or out of range.
    """
    made = SB3VecEnv(make_vec(env, num_envs, device=device, **kwargs), render_mode=render_mode)
    if seed is not None:
        made.seed(seed)
    return made
