"""The base class of wrappers of vector environments."""

from __future__ import annotations

from typing import Any

from gymnasium import spaces
from torch import Tensor

from rltrain.env import Observation
from rltrain.vec import VecEnv, VecStep, own_spaces


class VecWrapper:
    """Base class of wrappers: everything that a wrapper does not change is that of the environment inside.

    Args:
        vec: The environment inside.
    """

    def __init__(self, vec: VecEnv) -> None:
        self.vec = vec
        self.num_envs = vec.num_envs
        self.device = vec.device
        self.exact_resume = vec.exact_resume
        self.single_observation_space = vec.single_observation_space
        self.single_action_space = vec.single_action_space

    @property
    def own_spaces(self) -> tuple[spaces.Space, spaces.Space]:
        """Observations as they are here, actions as the environment inside has them."""
        return self.single_observation_space, own_spaces(self.vec)[1]

    def __getattr__(self, name: str) -> Any:
        if name == "vec":  # not there yet
            raise AttributeError(name)
        return getattr(self.vec, name)

    def reset(self, seed: int) -> Observation:
        """Starts every environment anew and returns the first observations (N, *O)."""
        return self.vec.reset(seed)

    def step(self, action: Tensor) -> VecStep:
        """Steps every environment with ``action`` (N, *A)."""
        return self.vec.step(action)

    def state_dict(self) -> dict[str, Any]:
        """The state of the environment inside."""
        return self.vec.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where :meth:`state_dict` was taken."""
        self.vec.load_state_dict(state)

    def close(self) -> None:
        """Closes the environment inside."""
        self.vec.close()


def like(space: spaces.Space, entries: dict[str, spaces.Space]) -> spaces.Space:
    """A Dict of the entries, or the only one, as the space had them."""
    return spaces.Dict(entries) if isinstance(space, spaces.Dict) else entries[""]
