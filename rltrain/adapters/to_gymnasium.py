"""Tensor environments as Gymnasium environments: what ``gymnasium.make`` and ``gymnasium.make_vec`` return."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import logger, spaces
from gymnasium.error import InvalidAction, ResetNeeded
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from torch import Tensor

from rltrain.env import Observation, TensorEnv
from rltrain.errors import ConfigError
from rltrain.make import make_env, make_tensor_vec
from rltrain.rng import derive_seed, make_generator


class SingleEnv(gymnasium.Env[Any, Any]):
    """One environment, without a time limit of its own: ``gymnasium.make`` adds the registered one.

    Box actions are clipped to the action space, as Gymnasium's own environments do; others must be in it.

    Args:
        env_id: A registered id, or a :class:`~rltrain.env.TensorEnv` class.
        render_mode: None or ``"rgb_array"``.
        device: Device on which the environment computes.
        **kwargs: Constructor arguments of the environment.

    Raises:
        ConfigError: The id, the render mode or a constructor argument is not known, or out of range.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012 (Gymnasium's type)

    def __init__(
        self,
        env_id: str | type[TensorEnv],
        render_mode: str | None = None,
        *,
        device: torch.device | str = "cpu",
        **kwargs: Any,
    ) -> None:
        self.tensor_env = make_env(env_id, device=device, **kwargs)
        self.metadata = _metadata(self.tensor_env, render_mode)
        self.render_mode = render_mode
        self.observation_space = self.tensor_env.full_observation_space
        self.action_space = self.tensor_env.action_space
        self._rng: torch.Generator | None = None
        self._state: Any = None

    @torch.no_grad()
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Starts an episode; with ``seed`` None the random stream of the last episode continues."""
        super().reset(seed=seed)
        if seed is not None or self._rng is None:
            self._rng = make_generator(self.tensor_env.device, derive_seed(self.np_random_seed, "env"))
        self._state = self.tensor_env.reset(1, self._rng)
        return self._observe(), self._info()

    @torch.no_grad()
    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One step. ``truncated`` is always false: the time limit is Gymnasium's wrapper.

        Raises:
            InvalidAction: The action is not in the action space.
            ResetNeeded: ``reset`` has not been called.
        """
        batch = to_batch(self.action_space, [action], 1, self.tensor_env.device)
        self._state, reward, terminated = self.tensor_env.step(self._started(), batch, self._rng)
        return self._observe(), float(reward[0]), bool(terminated[0]), False, self._info()

    def render(self) -> np.ndarray | None:
        """A picture (H, W, 3) uint8; None, with a warning, without a render mode."""
        if self.render_mode is None:
            _warn_no_render_mode()
            return None
        return self.tensor_env.render(self._started(), 0).numpy()

    def _started(self) -> Any:
        if self._state is None:
            raise ResetNeeded("call reset() first")
        return self._state

    def _observe(self) -> Any:
        return row(to_numpy(self.tensor_env.full_observe(self._state), self.observation_space), 0)

    def _info(self) -> dict[str, Any]:
        return {name: value[0].item() for name, value in self.tensor_env.info(self._state).items()}


class VectorEnv(gymnasium.vector.VectorEnv[Any, Any, np.ndarray]):
    """N environments stepped together, each reset in the step that ends its episode.

    Returns what ``SyncVectorEnv`` in same-step mode returns: ``infos`` with ``final_obs``, ``final_info`` and
    their masks where an episode ended, and rewards in float64. The tensors behind it are in :attr:`vec`.

    Args:
        env_id: A registered id, or a :class:`~rltrain.env.TensorEnv` class.
        num_envs: N.
        max_episode_steps: Time limit in steps; the environment's own when None.
        render_mode: None or ``"rgb_array"``.
        device: Device on which the environments compute.
        **kwargs: Constructor arguments of the environment.

    Raises:
        ConfigError: The id, the render mode or a constructor argument is not known, or out of range.
    """

    def __init__(
        self,
        env_id: str | type[TensorEnv],
        num_envs: int = 1,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
        *,
        device: torch.device | str = "cpu",
        **kwargs: Any,
    ) -> None:
        self.vec = make_tensor_vec(env_id, num_envs, device=device, max_episode_steps=max_episode_steps, **kwargs)
        self.metadata = {**_metadata(self.vec.env, render_mode), "autoreset_mode": AutoresetMode.SAME_STEP}
        self.render_mode = render_mode
        self.num_envs = num_envs
        self.single_observation_space = self.vec.single_observation_space
        self.single_action_space = self.vec.single_action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._started = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Starts every environment anew. One ``seed`` serves all; None continues the random stream.

        Raises:
            ConfigError: ``seed`` is a list, or ``options`` asks for some of the environments only.
        """
        if seed is not None and not isinstance(seed, int | np.integer):
            raise ConfigError(f"seed={seed!r} is not a number.", "Give one seed: all rows draw from one generator.")
        if options and "reset_mask" in options:
            raise ConfigError(
                "The environments cannot be reset one by one.",
                "They reset themselves in the step that ends an episode.",
            )
        super().reset(seed=seed, options=options)
        if seed is None:
            seed = int(self.np_random.integers(2**63))
        obs = to_numpy(self.vec.reset(int(seed)), self.single_observation_space)
        self._started = True
        return obs, self._fresh_infos()

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One step of every environment with ``actions`` (N, *A).

        Raises:
            InvalidAction: An action is not in the action space.
            ResetNeeded: ``reset`` has not been called.
        """
        if not self._started:
            raise ResetNeeded("call reset() first")
        out = self.vec.step(to_batch(self.single_action_space, actions, self.num_envs, self.vec.device))
        terminated, truncated = (x.cpu().numpy().copy() for x in (out.terminated, out.truncated))
        infos = self._fresh_infos()
        done = terminated | truncated
        if done.any():
            last = to_numpy(out.final_obs, self.single_observation_space)
            final_obs = np.full(self.num_envs, None, dtype=object)
            for i in np.flatnonzero(done).tolist():
                final_obs[i] = row(last, i)
            infos |= {"final_obs": final_obs, "_final_obs": done.copy()}
            infos |= {"final_info": _masked(out.info, done), "_final_info": done.copy()}
        obs = to_numpy(out.obs, self.single_observation_space)
        return obs, out.reward.cpu().to(torch.float64).numpy(), terminated, truncated, infos

    def render(self) -> tuple[np.ndarray, ...] | None:
        """A picture (H, W, 3) uint8 of every environment; None, with a warning, without a render mode."""
        if self.render_mode is None:
            _warn_no_render_mode()
            return None
        if not self._started:
            raise ResetNeeded("call reset() first")
        return tuple(self.vec.render(i).numpy() for i in range(self.num_envs))

    def close_extras(self, **kwargs: Any) -> None:
        """Releases what the environments hold."""
        self.vec.close()

    def _fresh_infos(self) -> dict[str, Any]:
        """The infos of the current states: of the new episode where one ended."""
        return _masked(self.vec.env.info(self.vec.state), np.ones(self.num_envs, dtype=np.bool_))


make_single = SingleEnv  # the entry points that rltrain.registry gives to Gymnasium: classes, so that
make_vector = VectorEnv  # Gymnasium finds the render modes in their metadata


def _metadata(env: TensorEnv, render_mode: str | None) -> dict[str, Any]:
    """Gymnasium's metadata.

    Raises:
        ConfigError: The environment does not have this render mode.
    """
    modes = ["rgb_array"] if type(env).render is not TensorEnv.render else []
    if render_mode is not None and render_mode not in modes:
        raise ConfigError(
            f"{type(env).__name__} has no render_mode={render_mode!r}.",
            f"It has: {', '.join(map(repr, [None, *modes]))}.",
        )
    return {"render_modes": modes, "render_fps": env.render_fps}


def _warn_no_render_mode() -> None:
    logger.warn('There is nothing to draw: make the environment with render_mode="rgb_array".')


def to_batch(space: spaces.Space, actions: Any, n: int, device: torch.device) -> Tensor:
    """``n`` actions as a tensor (n, *A) on ``device``, Box actions clipped to the space.

    Raises:
        InvalidAction: They are not actions of this space, or not ``n``.
    """
    try:
        array = np.asarray(actions)
    except ValueError as error:
        raise InvalidAction(f"{actions!r} are not actions of {space}: {error}") from error
    match space:
        case spaces.Box():
            kinds, low, high = "fiu", space.low, space.high
        case spaces.Discrete():
            kinds, low, high = "iu", np.asarray(space.start), np.asarray(space.start + space.n - 1)
        case spaces.MultiDiscrete():
            kinds, low, high = "iu", np.asarray(space.start), space.start + space.nvec - 1
        case spaces.MultiBinary():
            kinds, low, high = "biu", np.zeros(1), np.ones(1)
        case _:
            raise ConfigError(f"The action space {space} is not supported.", "Use a Box, Discrete or Multi* space.")
    shape = (n, *(space.shape or ()))
    if array.shape != shape:
        raise InvalidAction(f"{array!r} has the shape {array.shape}; {n} of {space} have the shape {shape}")
    if array.dtype.kind not in kinds:
        raise InvalidAction(f"{array!r} has the type {array.dtype}, which is not of {space}")
    if isinstance(space, spaces.Box):
        if not np.isfinite(array).all():
            raise InvalidAction(f"{array!r} holds a number that is not finite")
        array = array.clip(low, high)
    elif not ((array >= low) & (array <= high)).all():
        raise InvalidAction(f"{array!r} is not in {space}")
    return torch.from_numpy(array.astype(space.dtype)).to(device)


def to_numpy(observation: Observation, space: spaces.Space) -> Any:
    """A batch of observations in NumPy, in the type of the space, sharing no memory with the state."""
    if isinstance(observation, dict):
        assert isinstance(space, spaces.Dict)
        return {name: to_numpy(part, space[name]) for name, part in observation.items()}
    dtype = torch.from_numpy(np.empty(0, dtype=space.dtype)).dtype
    return observation.cpu().to(dtype, copy=True).numpy()


def row(batch: Any, index: int) -> Any:
    """One observation of a batch."""
    if isinstance(batch, dict):
        return {name: row(part, index) for name, part in batch.items()}
    return batch[index]


def _masked(info: dict[str, Tensor], rows: np.ndarray) -> dict[str, np.ndarray]:
    """Infos as ``SyncVectorEnv`` gives them: the values of ``rows``, zero elsewhere, beside a mask ``_name``."""
    infos: dict[str, np.ndarray] = {}
    for name, values in info.items():
        dtype = (
            torch.float64 if values.is_floating_point() else torch.bool if values.dtype == torch.bool else torch.int64
        )
        array = values.cpu().to(dtype, copy=True).numpy()
        array[~rows] = 0
        infos |= {name: array, f"_{name}": rows.copy()}
    return infos
