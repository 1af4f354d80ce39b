"""The rewards of goals in environments of Gymnasium-Robotics' interface, which are NumPy's, as functions of tensors."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

from rltrain.adapters.loop import close_quietly
from rltrain.errors import RunError
from rltrain.naming.reasons import reason_of


class HostGoals:
    """Asks an environment of its own, which is never stepped, since those that are may live in other processes.

    Args:
        make: Makes an environment.
        env_id: Its id, for errors.
    """

    def __init__(self, make: Callable[[], gymnasium.Env], env_id: str) -> None:
        self._make = make
        self._id = env_id

    @cached_property
    def _env(self) -> Any:
        return self._make().unwrapped

    def reward(self, achieved: Tensor, desired: Tensor) -> Tensor:
        """``compute_reward`` of B pairs of goals (B, *G), float32."""
        return self._ask("compute_reward", achieved, desired, np.float32)

    def terminated(self, achieved: Tensor, desired: Tensor) -> Tensor:
        """``compute_terminated`` of B pairs of goals (B, *G), bool."""
        return self._ask("compute_terminated", achieved, desired, np.bool_)

    def close(self) -> None:
        """Closes the environment, if there is one."""
        if "_env" in vars(self):
            close_quietly(self._env)

    def _ask(self, name: str, achieved: Tensor, desired: Tensor, dtype: Any) -> Tensor:
        """The answers (B,): at once, or one by one where the method does not take batches."""
        method, pairs = getattr(self._env, name), (achieved.cpu().numpy(), desired.cpu().numpy())
        rows = len(achieved)
        try:
            answer = np.asarray(method(*pairs, [{} for _ in range(rows)]))
            if answer.shape != (rows,):
                answer = np.array([method(*pair, {}) for pair in zip(*pairs, strict=True)]).reshape(rows)
        except Exception as error:
            raise RunError(
                f"'{self._id}' fails in {name}: {reason_of(error)}.",
                "Hindsight needs it for any goals: mend it, or leave --agent.n-sampled-goal out.",
            ) from error
        return torch.from_numpy(answer.astype(dtype)).to(achieved.device)
