"""Converts observations and actions between the environment's own spaces and the tensors of an agent."""

from __future__ import annotations

import reprlib
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.adapters.spaces import Actions, Leaf, mapped, observation_leaves, row_of
from rltrain.env import Observation
from rltrain.errors import InputError
from rltrain.spaces import MASK
from rltrain.wrappers import rescaled

GIVE = "Give what the environment gives: one observation, or a batch of them."


class Batch(NamedTuple):
    """Observations as an agent sees them, and how they were given."""

    obs: Observation  # (N, *O)
    rows: int  # N
    single: bool  # given without a batch dimension
    as_tensor: bool  # a part of them was given as a tensor


class Translation:
    """The conversion that an adapter does in training, for observations and actions from any source.

    Args:
        of_env: The environment's own spaces of a single observation and a single action.
        of_agent: The spaces that the agent was trained with.
        device: Device of the agent.
        scale: The actions of the environment that -1 and 1 of the agent stand for; None where they are the same.
        options: The options around the environment that change its observations, for error messages.
    """

    def __init__(
        self,
        of_env: tuple[spaces.Space, spaces.Space],
        of_agent: tuple[spaces.Space, spaces.Space],
        device: torch.device,
        *,
        scale: tuple[np.ndarray, np.ndarray] | None = None,
        options: str = "",
    ) -> None:
        self.observation_space, self.action_space = of_env
        self.device = device
        self.leaves, _ = observation_leaves(self.observation_space)
        seen = of_agent[0]
        self.shapes = [_shape(seen[leaf.name] if isinstance(seen, spaces.Dict) else seen) for leaf in self.leaves]
        self.in_dict = isinstance(seen, spaces.Dict)
        self.actions = Actions.for_space(self.action_space)
        self.bounds: tuple[Tensor, Tensor] | None = None
        if scale is not None:
            self.bounds = torch.as_tensor(scale[0], device=device), torch.as_tensor(scale[1], device=device)
        self.same_actions = of_agent[1] == self.action_space and scale is None
        self.options = f". It is that of the environment with {options}, as in training" if options else ""

    def to_agent(self, obs: Any) -> Batch:
        """Observations for the agent.

        Args:
            obs: One observation of the environment, or a batch as its vector environment gives it: arrays, tensors,
                numbers or lists, in dicts and tuples as the space has them.

        Raises:
            InputError: It is not an observation of the environment, or not finite.
        """
        given = [self._part(obs, leaf) for leaf in self.leaves]
        shapes = [tuple(np.shape(part)) for part in given]
        single = shapes[0] == self.leaves[0].shape
        rows = 1 if single else next(iter(shapes[0]), 1)
        for leaf, shape in zip(self.leaves, shapes, strict=True):
            if shape != (leaf.shape if single else (rows, *leaf.shape)):
                expected = f"{leaf.shape} or (N, {str(leaf.shape)[1:]}".replace("(N, )", "(N,)")
                raise InputError(f"{leaf.name or 'obs'} has shape {shape}, expected {expected}{self.options}.", GIVE)
        as_tensor = any(isinstance(part, Tensor) for part in given)
        batches = [
            self._tensor(part, leaf).reshape(rows, *shape)
            for part, leaf, shape in zip(given, self.leaves, self.shapes, strict=True)
        ]
        names = [leaf.name for leaf in self.leaves]
        seen = dict(zip(names, batches, strict=True)) if self.in_dict else batches[0]
        return Batch(seen, rows, single, as_tensor)

    def to_env(self, action: Tensor, *, single: bool, as_tensor: bool) -> Any:
        """Converts actions of the agent for the environment.

        Args:
            action: The agent's (N, *A).
            single: Whether to leave out the batch dimension: a Discrete action becomes an ``int``.
            as_tensor: Whether to give a tensor on the agent's device rather than an array or an ``int``.
        """
        if self.bounds is not None:
            action = rescaled(action, *self.bounds)
        if as_tensor and self.same_actions:
            return action[0] if single else action
        given = self.actions.to_env(action.cpu().numpy())
        if as_tensor:
            given = mapped(lambda array: torch.as_tensor(array, device=self.device), given)
            return row_of(given, 0) if single else given
        return _plain(row_of(given, 0), self.action_space) if single else given

    def _part(self, obs: Any, leaf: Leaf) -> Any:
        """The part of an observation that belongs to a leaf, as a tensor or an array."""
        try:
            part = leaf.of(obs)
        except (KeyError, IndexError, TypeError) as error:
            if leaf.name == MASK:
                wanted = ", ".join(f"'{leaf.name.partition('.')[0]}': ..." for leaf in self.leaves)
                raise InputError(
                    f"obs has no '{MASK}', and this policy heeds one.",
                    f"Give {{{wanted}}}, with what action_masks() or info['{MASK}'] of the environment says.",
                ) from error
            kind = type(self.observation_space).__name__.lower()
            raise InputError(f"obs must be a {kind} with '{leaf.name}'{self.options}.", GIVE) from error
        try:
            part = part if isinstance(part, Tensor) else np.asarray(part)
        except ValueError as error:
            whole_reset = isinstance(part, tuple) and len(part) == 2 and isinstance(part[1], dict)
            fix = "Give its first value alone: reset returns (obs, info)." if whole_reset else GIVE
            raise InputError(f"{leaf.name or 'obs'} is no array: {_short(part)}.", fix) from error
        if isinstance(part, Tensor) and (part.is_complex() or part.is_meta or part.layout is not torch.strided):
            what = f"a {part.dtype} tensor of layout {part.layout} on {part.device}"
            raise InputError(f"{leaf.name or 'obs'} holds no numbers to act upon: it is {what}.", GIVE)
        if isinstance(part, np.ndarray) and part.shape and part.dtype.kind not in "fiub":
            raise InputError(f"{leaf.name or 'obs'} holds no numbers: {_short(part)}.", GIVE)
        return part

    def _tensor(self, part: Any, leaf: Leaf) -> Tensor:
        """The same numbers in the type that the agent was trained with."""
        if isinstance(part, Tensor):
            # Converted before it is moved: not every device has float64.
            typed = part.to(torch.from_numpy(np.empty(0, leaf.dtype)).dtype).to(self.device)
            same = leaf.dtype.kind == "f" or part.dtype == typed.dtype or bool((typed == part.to(self.device)).all())
        else:
            with np.errstate(invalid="ignore", over="ignore"):
                # A copy: the one given may be read-only, or run backwards.
                array = np.array(part, leaf.dtype, order="C")
            same = leaf.dtype.kind == "f" or part.dtype == leaf.dtype or np.array_equal(array, part)
            typed = torch.from_numpy(array).to(self.device)
        if leaf.dtype.kind == "f" and not bool(torch.isfinite(typed).all()):
            raise InputError(f"{leaf.name or 'obs'} holds NaN or infinity: {_short(part)}.", "Give finite numbers.")
        if not same:
            raise InputError(f"{leaf.name or 'obs'} has numbers that {leaf.dtype} cannot hold: {_short(part)}.", GIVE)
        return typed


def _plain(action: Any, space: spaces.Space) -> Any:
    """One action as a person would write it: a Discrete one as an ``int``, any other as an array."""
    if isinstance(space, spaces.Dict):
        return {name: _plain(action[name], part) for name, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(_plain(one, part) for one, part in zip(action, space.spaces, strict=True))
    return int(action) if isinstance(space, spaces.Discrete) else np.asarray(action)


def _short(part: Any) -> str:
    """Numbers in one line."""
    return reprlib.repr(" ".join(str(part).split())).strip("'")


def _shape(space: spaces.Space) -> tuple[int, ...]:
    return space.shape or ()
