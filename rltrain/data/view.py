"""A dataset as an agent sees it: tensors of the agent's spaces, from memory or from the disk."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.data.check import forbidden_steps
from rltrain.data.columns import ACTION, OBS, REWARD, leaves_of
from rltrain.data.dataset import Dataset
from rltrain.env import Observation
from rltrain.errors import DatasetError
from rltrain.spaces import MASK, entries_of

IN_MEMORY = 2**30
"""Bytes of observations and actions that are loaded once; of more, each minibatch is read from the disk."""
ROWS = 8192
"""Steps that are computed at once where all steps are gone through."""

Steps: TypeAlias = np.ndarray | Tensor
"""Numbers of steps (B,): an array, or a tensor on the device of the view."""


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
            steps, episodes = np.arange(len(dataset)), np.arange(len(dataset.episodes))
            self.loaded = {ACTION: self._tensor(ACTION, action_space, steps)}
            for name, space in self.parts.items():  # those after the last steps of episodes stand at the end
                rows = np.concatenate([dataset.take(name, steps), dataset.final(name, episodes)])
                self.loaded[name] = self._converted(rows, space)
            following = steps + 1
            following[dataset.episodes.end - 1] = len(steps) + episodes
            self.following = torch.from_numpy(following).to(self.device)  # (S,) row of what each step led to

    def obs(self, steps: Steps) -> Observation:
        """The observations that were acted upon in these steps."""
        return self._observation([self._rows(name, space, steps) for name, space in self.parts.items()])

    def next_obs(self, steps: Steps) -> Observation:
        """The observations that these steps led to, before any reset."""
        if self.loaded is not None:
            rows = self.following.index_select(0, self._index(steps))
            return self._observation([self.loaded[name].index_select(0, rows) for name in self.parts])
        where = _on_host(steps)
        return self._observation(
            [self._converted(self.dataset.after(name, where), space) for name, space in self.parts.items()]
        )

    def action(self, steps: Steps) -> Tensor:
        """The actions of these steps, in the agent's action space."""
        return self._rows(ACTION, self.action_space, steps)

    def _observation(self, parts: list[Tensor]) -> Observation:
        return parts[0] if self.names is None else dict(zip(self.names, parts, strict=True))

    def _rows(self, name: str, space: spaces.Space, steps: Steps) -> Tensor:
        if self.loaded is None:
            return self._tensor(name, space, _on_host(steps))
        return self.loaded[name].index_select(0, self._index(steps))

    def _index(self, steps: Steps) -> Tensor:
        return steps if isinstance(steps, Tensor) else torch.from_numpy(np.asarray(steps, np.int64)).to(self.device)

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


def chunks(steps: np.ndarray) -> list[np.ndarray]:
    """Steps in pieces of at most :data:`ROWS`."""
    return np.array_split(steps, -(-len(steps) // ROWS))


def _on_host(steps: Steps) -> np.ndarray:
    return steps.cpu().numpy() if isinstance(steps, Tensor) else np.asarray(steps)


def rewards_of(dataset: Dataset) -> np.ndarray:
    """The rewards of all steps, (S,) float64.

    Raises:
        DatasetError: There is one that is not finite.
    """
    rewards = dataset.take(REWARD, np.arange(len(dataset))).astype(np.float64)
    if not np.isfinite(rewards).all():
        first = int(np.argmin(np.isfinite(rewards)))
        what = f"'{dataset.path}' has rewards that are not finite, first in step {first}."
        raise DatasetError(what, "Mend them: 'rltrain data check' names the episodes.")
    return rewards


def refuse_forbidden_actions(dataset: Dataset, action_space: spaces.Space) -> None:
    """Checks that no action of a dataset is one that its mask forbids.

    Raises:
        DatasetError: There is one.
    """
    masked = isinstance(action_space, spaces.Discrete) and f"{OBS}.{MASK}" in dataset.columns
    if masked and (forbidden := forbidden_steps(dataset)).count:
        what = f"The mask of '{dataset.path}' forbids the action that was taken {forbidden}."
        raise DatasetError(what, "Mend the masks: 'rltrain data check' names the steps.")


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
