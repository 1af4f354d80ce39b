"""Environments written in JAX as a vector environment: one compiled program per step, tensors without a copy.

Tensors and JAX arrays share their memory by DLPack. What JAX keeps between steps shares no memory with its inputs and
outputs, so torch may write into either; only saved and loaded state is copied. Integers are the exception: JAX uses 32
bits unless told otherwise, and agents use 64.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.adapters.gymnasium_ids import named_errors
from rltrain.adapters.jax_program import JaxGame, program_for
from rltrain.adapters.spaces import Actions, observation_leaves, seen_space
from rltrain.env import Observation
from rltrain.errors import ConfigError
from rltrain.registry import EnvSpec
from rltrain.rng import derive_seed
from rltrain.vec import VecStep


class JaxVecEnv:
    """N environments written in JAX behind :class:`~rltrain.vec.VecEnv`, on the device of the policy.

    They are compiled in the first reset, once for each number of environments. Their state is arrays, so a resumed run
    continues exactly. So far they have been run on the CPU only.

    Args:
        spec: Its registration.
        game: The environment.
        num_envs: N.
        arguments: Constructor arguments; environments with equal ones share a program.
        device: Device of the tensors and of JAX.
        dtype: Floating-point type of observations.
        render: Make environments to be drawn: a finished one stays as it is.

    Raises:
        ConfigError: It cannot be made, its spaces cannot be tensors, or JAX does not have the device.
    """

    exact_resume = True

    def __init__(
        self,
        spec: EnvSpec,
        game: JaxGame,
        num_envs: int,
        *,
        arguments: Mapping[str, Any],
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        render: bool = False,
    ) -> None:
        import jax

        self.spec = spec
        self.game = game
        self.num_envs = num_envs
        self.device = torch.device(device)
        self.max_episode_steps = game.max_episode_steps
        self.render_fps = game.render_fps
        leaves, _ = observation_leaves(game.observation_space, str(dtype or torch.float32).removeprefix("torch."))
        self.own_spaces = game.observation_space, game.action_space
        self.single_observation_space = seen_space(leaves)
        self.single_action_space = Actions.for_space(game.action_space).space
        self._names = [leaf.name for leaf in leaves] if leaves[0].path else None
        self._types = [torch.from_numpy(np.empty(0, leaf.dtype)).dtype for leaf in leaves]
        self._number = torch.float32 if isinstance(self.single_action_space, spaces.Box) else torch.int32
        self._place = jax_device(self.device)
        self._limit = jax.device_put(np.int32(game.max_episode_steps), self._place)
        self._carry: Any = None
        with named_errors(spec.id):
            key = (spec.id, repr(sorted(arguments.items())))
            self.program = program_for(key, game, num_envs, self._place, not render)

    def reset(self, seed: int) -> Observation:
        """Starts every environment anew, each with its own stream, and returns the first observations (N, *O)."""
        self.program.compile(self.spec.id)
        self._carry, seen = self.program.start(np.int32(derive_seed(seed, "env") % 2**31))
        return self._observation(seen)

    @torch.no_grad()
    def step(self, action: Tensor) -> VecStep:
        """Steps every environment with ``action`` (N, *A); finished ones are reset in the same step.

        Raises:
            ValueError: ``action`` has another shape.
        """
        expected = (self.num_envs, *(self.single_action_space.shape or ()))
        if action.shape != expected:
            raise ValueError(f"action has shape {tuple(action.shape)}, expected {expected}")
        given = to_jax(action.to(self._number))
        self._carry, new = self.program.step(self._carry, given, self._limit)
        return VecStep(
            self._observation(new["obs"]),
            to_torch(new["reward"]),
            to_torch(new["terminated"]),
            to_torch(new["truncated"]),
            self._observation(new["final_obs"]),
            to_torch(new["episode_return"]),
            to_torch(new["episode_length"]).to(torch.int64),
            {},
        )

    def _observation(self, seen: list[Any]) -> Observation:
        parts = [to_torch(array).to(kind) for array, kind in zip(seen, self._types, strict=True)]
        return parts[0] if self._names is None else dict(zip(self._names, parts, strict=True))

    def render(self, index: int = 0) -> np.ndarray:
        """A picture (H, W, 3) uint8 of environment ``index``.

        Raises:
            ConfigError: It cannot be drawn.
        """
        import jax

        with named_errors(self.spec.id):
            return self.game.render(jax.tree.map(lambda x: x[index], self._carry["state"]))

    def state_dict(self) -> dict[str, Any]:
        """States, random streams and episode statistics, numbered in JAX's order."""
        import jax

        return {str(i): to_torch(leaf).clone() for i, leaf in enumerate(jax.tree.leaves(self._carry))}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where :meth:`state_dict` was taken.

        Raises:
            ValueError: The saved state has other fields or shapes.
        """
        import jax

        templates, structure = jax.tree.flatten(self.program.carry)
        if len(state) != len(templates):
            raise ValueError(f"the saved state has {len(state)} fields, expected {len(templates)}")
        leaves = []
        for i, template in enumerate(templates):
            saved = state[str(i)]
            if tuple(saved.shape) != template.shape:
                raise ValueError(f"the saved state has shape {tuple(saved.shape)}, expected {template.shape}")
            leaves.append(to_jax(saved.to(self.device, copy=True)))
        self.program.compile(self.spec.id)
        self._carry = jax.tree.unflatten(structure, leaves)

    def close(self) -> None:
        """Nothing to release."""


def to_jax(tensor: Tensor) -> Any:
    """A tensor as an array in the same memory; JAX copies it if it is not aligned as JAX needs."""
    import jax

    return jax.dlpack.from_dlpack(tensor.detach().contiguous())


def to_torch(array: Any) -> Tensor:
    """An array as a tensor in the same memory."""
    return torch.from_dlpack(array)


def jax_device(device: torch.device) -> Any:
    """JAX's name for a device.

    Raises:
        ConfigError: JAX does not have it.
    """
    import jax

    try:
        return jax.devices(device.type)[device.index or 0]
    except (RuntimeError, IndexError) as error:
        raise ConfigError(
            f"JAX has no device '{device}': {' '.join(str(error).split())}.",
            "Choose --device cpu, or install JAX for your accelerator, such as pip install 'jax[cuda13]'.",
        ) from error
