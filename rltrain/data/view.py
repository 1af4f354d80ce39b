"""A dataset as an agent sees it: tensors of the agent's spaces, from memory or from the disk."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.data.columns import ACTION, OBS, leaves_of
from rltrain.data.dataset import Dataset
from rltrain.env import Observation
from rltrain.errors import DatasetError
from rltrain.spaces import entries_of

IN_MEMORY = 2**30
"""Bytes of observations and actions that are loaded once; of more, each minibatch is read from the disk."""


class AgentView:
    """Observations and actions of a dataset as tensors (B, *O) and (B, *A) for an agent.

    Args:
        dataset: The dataset.
        observation_space: Space of a single observation as the agent sees it.
        action_space: Space of a single action of the agent.
        device: Where the tensors are.
        in_memory: Bytes up to which they are loaded once.

    Raises:
        DatasetError: The dataset has other observations or actions.
    """

    def __init__(
        self,
        dataset: Dataset,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        *,
        device: torch.device | str = "cpu",
        in_memory: int = IN_MEMORY,
    ) -> None:
        self.dataset, self.device = dataset, torch.device(device)
        self.parts = {f"{OBS}.{name}" if name else OBS: part for name, part in entries_of(observation_space).items()}
        self.names = [name.removeprefix(f"{OBS}.") for name in self.parts] if OBS not in self.parts else None
        self.action_space = action_space
        self._check(observation_space)
        needed = {**self.parts, ACTION: action_space}
        size = len(dataset) * sum(dataset.columns[name].row_bytes for name in needed)
        self.loaded: dict[str, Tensor] | None = None
        if size <= in_memory:
            steps = np.arange(len(dataset))
            self.loaded = {name: self._tensor(name, space, steps) for name, space in needed.items()}

    def obs(self, steps: np.ndarray) -> Observation:
        """The observations that were acted upon in these steps."""
        parts = [self._rows(name, space, steps) for name, space in self.parts.items()]
        return parts[0] if self.names is None else dict(zip(self.names, parts, strict=True))

    def next_obs(self, steps: np.ndarray) -> Observation:
        """The observations that these steps led to, before any reset."""
        parts = [self._converted(self.dataset.after(name, steps), space) for name, space in self.parts.items()]
        return parts[0] if self.names is None else dict(zip(self.names, parts, strict=True))

    def action(self, steps: np.ndarray) -> Tensor:
        """The actions of these steps, in the agent's action space."""
        return self._rows(ACTION, self.action_space, steps)

    def _rows(self, name: str, space: spaces.Space, steps: np.ndarray) -> Tensor:
        if self.loaded is None:
            return self._tensor(name, space, steps)
        return self.loaded[name].index_select(0, torch.from_numpy(np.asarray(steps, np.int64)).to(self.device))

    def _tensor(self, name: str, space: spaces.Space, steps: np.ndarray) -> Tensor:
        return self._converted(self.dataset.take(name, steps), space)

    def _converted(self, rows: np.ndarray, space: spaces.Space) -> Tensor:
        shape = (len(rows), *(space.shape or ()))
        dtype = np.float32 if isinstance(space, spaces.Box) and space.dtype.kind == "f" else space.dtype
        return torch.from_numpy(np.ascontiguousarray(rows.reshape(shape).astype(dtype, copy=False))).to(self.device)

    def _check(self, observation_space: spaces.Space) -> None:
        dataset = self.dataset
        mine, theirs = leaves_of(dataset.observation_space, OBS), leaves_of(dataset.action_space, ACTION)
        mine = {name: space for name, space in mine.items() if not isinstance(space, spaces.Text)}
        options = (dataset.manifest.get("environment") or {}).get("options")
        hint = f" It was recorded with {options}." if options else ""
        if set(mine) != set(self.parts):
            odd = sorted(set(mine) ^ set(self.parts))[0]
            where = "and the environment has none" if odd in mine else "which the environment has"
            what = f"'{dataset.path}' has {'an' if odd in mine else 'no'} '{odd}', {where}."
            raise DatasetError(
                what, f"Give the environment that it was recorded in, with the same --env options.{hint}"
            )
        for name, space in self.parts.items():
            if not _fits(mine[name], space):
                what = f"'{name}' of '{dataset.path}' is of {mine[name]}, and in the environment of {space}."
                fix = f"Give the environment that it was recorded in, with the same --env options.{hint}"
                raise DatasetError(" ".join(what.split()), fix)
        acted = theirs.get(ACTION)
        if acted is None or not _fits(acted, self.action_space, bounds=True):
            what = f"The actions of '{dataset.path}' are of {acted or dataset.action_space}"
            fix = f"Give the environment that it was recorded in.{hint}"
            if isinstance(acted, spaces.Box) and isinstance(self.action_space, spaces.Box):
                fix = f"Give --env.rescale-action true or false, as when it was recorded.{hint}"
            raise DatasetError(f"{what}, and in the environment of {self.action_space}.", fix)


def _fits(own: spaces.Space, seen: spaces.Space, *, bounds: bool = False) -> bool:
    """Whether values of a dataset's space are those of the agent's, but for their type, shape and finite bounds."""
    if type(own) is not type(seen):
        return False
    if isinstance(own, spaces.Discrete) and isinstance(seen, spaces.Discrete):
        return (int(own.n), int(own.start)) == (int(seen.n), int(seen.start))
    if int(np.prod(own.shape or ())) != int(np.prod(seen.shape or ())):
        return False
    if isinstance(own, spaces.MultiDiscrete) and isinstance(seen, spaces.MultiDiscrete):
        pairs: Any = ((own.nvec, seen.nvec), (own.start, seen.start))
        return all(np.array_equal(np.ravel(a), np.ravel(b)) for a, b in pairs)
    if isinstance(own, spaces.Box) and isinstance(seen, spaces.Box):
        if (own.dtype.kind == "f") != (seen.dtype.kind == "f"):
            return False
        if bounds:
            pairs = ((own.low, seen.low), (own.high, seen.high))
            return all(np.allclose(np.ravel(a), np.ravel(b)) or not np.isfinite(a).all() for a, b in pairs)
        return True
    return True
