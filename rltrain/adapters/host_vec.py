"""Environments in the host's memory as a vector environment: NumPy on their side, tensors on ours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.adapters.block import Block
from rltrain.adapters.frames import picture_of
from rltrain.adapters.gymnasium_ids import UNDRAWN, named_errors
from rltrain.adapters.loop import FINAL, INFO, OBS, SUCCESS
from rltrain.adapters.masks import stuck_row
from rltrain.adapters.spaces import Actions, Leaf, seen_space
from rltrain.adapters.transfer import Transfer
from rltrain.env import Observation
from rltrain.errors import CheckpointError, ConfigError
from rltrain.process import stopping
from rltrain.registry import EnvSpec
from rltrain.rng import derive_seed
from rltrain.spaces import MASK, no_choice
from rltrain.vec import VecStep


class HostEnvs(Protocol):
    """Interface of what steps the environments, such as a :class:`~rltrain.adapters.loop.Loop`."""

    def reset(self, seeds: Sequence[int]) -> None:
        """Starts every environment anew."""

    def step(self) -> None:
        """Steps every environment."""

    def close(self) -> None:
        """Closes the environments."""


@runtime_checkable
class Drawn(Protocol):
    """Host environments that can be drawn."""

    def render(self, index: int) -> Any:
        """A picture of one environment."""


@runtime_checkable
class Saved(Protocol):
    """Host environments whose state can be saved."""

    def state_dict(self) -> dict[str, Any]:
        """Everything with memory, as a nested dict of tensors."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where :meth:`state_dict` was taken."""


class HostVecEnv:
    """N environments in the host's memory behind :class:`~rltrain.vec.VecEnv`.

    Dict and Tuple observations become a flat dict, the names of nested entries joined by dots; floating-point numbers
    become float32. Box actions are clipped to their space. ``info`` has ``is_success``, NaN where an
    environment does not report it. Few host environments can be saved; with others a resumed run starts new episodes.

    The results of a step are in one block of memory. One copy takes them to the device (:class:`Transfer`), another
    brings the actions back. The host waits for the latter, so nothing is overwritten before it has been read.

    Args:
        spec: Its registration.
        num_envs: N.
        observation_space: Space of a single observation of the environments.
        leaves: The parts of observations.
        actions: The conversion of actions.
        make_envs: Function that makes the host environments for a block.
        device: Device of the tensors.
        max_episode_steps: Time limit in steps, which the host environments keep.
        render_fps: Pictures per second.
        log_info: Names of numbers in info that are wanted; NaN where an environment does not give them.

    Raises:
        ConfigError: The host environments cannot be made.
    """

    def __init__(
        self,
        spec: EnvSpec,
        num_envs: int,
        observation_space: spaces.Space,
        leaves: list[Leaf],
        actions: Actions,
        make_envs: Callable[[Block], HostEnvs],
        *,
        device: torch.device | str,
        max_episode_steps: int | None,
        render_fps: float = 30.0,
        log_info: Sequence[str] = (),
    ) -> None:
        self.log_info = log_info
        self.spec = spec
        self.num_envs = num_envs
        self.device = torch.device(device)
        self.max_episode_steps = max_episode_steps
        self.render_fps = render_fps
        self.own_spaces = observation_space, actions.of_env
        self.single_observation_space = seen_space(leaves)
        self.single_action_space = actions.space
        block = Block(block_fields(num_envs, leaves, actions, log_info))
        arrays = self._arrays = block.arrays
        self._action = torch.from_numpy(arrays["action"])
        seen = {prefix + leaf.name: (num_envs, *_shape(leaf.space)) for leaf in leaves for prefix in (OBS, FINAL)}
        self._without_obs, self._with_obs = block.offsets[OBS + leaves[0].name], block.offsets["action"]
        self._to_patch = [(arrays[OBS + leaf.name], arrays[FINAL + leaf.name]) for leaf in leaves]
        self._names = [leaf.name for leaf in leaves] if leaves[0].path else None
        self._has_success = False
        with named_errors(spec.id):
            self._envs = make_envs(block)
        self.exact_resume = isinstance(self._envs, Saved)
        self._calls, self._inner = 0, getattr(self._envs, "where", int)
        begin = getattr(self._envs, "guard", None)
        self._guard = None if begin is None else begin(spec.id)
        self._masks = arrays.get(OBS + MASK), arrays.get(FINAL + MASK)
        self._transfer = Transfer(block, seen, self.device)  # last, because workers must start before CUDA does

    def reset(self, seed: int) -> Observation:
        """Starts every environment anew, each with a seed of its own, and returns the first observations (N, *O).

        Raises:
            RunError: An environment failed.
        """
        return self.reset_each(self._seeds(seed))

    def reset_each(self, seeds: Sequence[int]) -> Observation:
        """As :meth:`reset`, with the seeds themselves: those that :meth:`episode_seeds` gave.

        Raises:
            RunError: An environment failed.
        """
        with stopping.inside(self._where):
            self._envs.reset(seeds)
        self._check_masks(self._masks[0], np.ones(self.num_envs, np.bool_))
        return self._observation(self._transfer.take(self._with_obs), OBS)

    def episode_seeds(self, seed: int) -> list[int] | None:
        """The seeds that :meth:`reset` passes to each ``env.reset(seed=...)``; None where one seed serves them all."""
        return self._seeds(seed) if getattr(self._envs, "seeds_each", False) else None

    def _seeds(self, seed: int) -> list[int]:
        return [derive_seed(seed, "env", i) % 2**31 for i in range(self.num_envs)]

    def step(self, action: Tensor) -> VecStep:
        """Steps every environment with ``action`` (N, *A); finished ones are reset in the same step.

        Raises:
            ValueError: ``action`` has another shape.
            RunError: An environment failed, or a worker was killed.
        """
        if action.shape != self._action.shape:
            raise ValueError(f"action has shape {tuple(action.shape)}, expected {tuple(self._action.shape)}")
        self._action.copy_(action)
        self._calls += 1
        with stopping.inside(self._where):
            self._envs.step()
        done = self._arrays["terminated"] | self._arrays["truncated"]
        ended = bool(done.any())
        goes_on = ~done
        self._check_masks(self._masks[1], goes_on)
        if ended:
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

    def _where(self) -> tuple[int, object]:
        """What changes whenever an environment has answered."""
        return self._calls, self._inner()

    def _check_masks(self, masks: np.ndarray | None, playing: np.ndarray) -> None:
        """Refuses a mask that allows nothing while the episode goes on, where any action would be a wrong one."""
        if masks is None or (row := stuck_row(masks, playing, self.own_spaces[1])) is None:
            return
        raise no_choice(f"Environment {row} of '{self.spec.id}'")

    def _observation(self, new: dict[str, Tensor], prefix: str) -> Observation:
        return new[prefix] if self._names is None else {name: new[prefix + name] for name in self._names}

    def _info(self, new: dict[str, Tensor]) -> dict[str, Tensor]:
        if not self._has_success:
            self._has_success = not np.isnan(self._arrays[SUCCESS]).all()
        told = {name: new[INFO + name] for name in self.log_info}
        return {**told, SUCCESS: new[SUCCESS]} if self._has_success else told

    def render(self, index: int = 0) -> np.ndarray:
        """A picture (H, W, 3) uint8 of environment ``index``, if they were made to be drawn.

        Raises:
            ConfigError: It does not return a picture.
        """
        assert isinstance(self._envs, Drawn)
        with named_errors(self.spec.id, "drawn"), stopping.inside(self._where):
            drawn = self._envs.render(index)
        picture = picture_of(drawn)
        if picture is None:
            given = f"an array {np.shape(drawn)}" if isinstance(drawn, np.ndarray) else type(drawn).__name__
            raise ConfigError(
                f"'{self.spec.id}' draws no picture: its render() returns {given}.",
                f"In the render mode rgb_array it must return an array (H, W, 3). {UNDRAWN}",
            )
        return picture

    def state_dict(self) -> dict[str, Any]:
        """The state of the environments; empty if it cannot be saved."""
        return self._envs.state_dict() if isinstance(self._envs, Saved) else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where :meth:`state_dict` was taken, if that saved anything.

        Raises:
            CheckpointError: Nothing was saved, because the environments were stepped in a loop then.
            ValueError: The saved state is of other environments.
        """
        if not isinstance(self._envs, Saved):
            return
        if not state:
            raise CheckpointError(
                f"The checkpoint has no state of '{self.spec.id}', which was stepped in a loop when it was made.",
                "Write 'vectorization: sync' under env in the config.yaml of the run, and resume it again.",
            )
        self._envs.load_state_dict(state)

    def close(self) -> None:
        """Closes the environments and ends the workers."""
        if self._guard is not None:
            self._guard.stop()
        self._envs.close()


def block_fields(num_envs: int, leaves: list[Leaf], actions: Actions, log_info: Sequence[str] = ()) -> dict[str, Any]:
    """Fields of a block: what is sent after every step, then ``obs``, sent if an episode ended, then the actions."""
    real, whole, flag = np.dtype(np.float32), np.dtype(np.int64), np.dtype(np.bool_)
    kinds = {"reward": real, "episode_return": real, SUCCESS: real, "episode_length": whole}
    kinds |= {"terminated": flag, "truncated": flag}
    kinds |= {INFO + name: real for name in log_info}
    return {
        **{name: (kind, (num_envs,)) for name, kind in kinds.items()},
        **{FINAL + leaf.name: (leaf.dtype, (num_envs, *leaf.shape)) for leaf in leaves},
        **{OBS + leaf.name: (leaf.dtype, (num_envs, *leaf.shape)) for leaf in leaves},
        "action": (actions.dtype, (num_envs, *_shape(actions.space))),
    }


def _shape(space: spaces.Space) -> tuple[int, ...]:
    return space.shape or ()
