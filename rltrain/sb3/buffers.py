"""Datasets of the replay buffers of Stable-Baselines3, from the live object: saved ones are pickles, never opened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces

from rltrain.data.columns import ACTION, OBS, REWARD, TERMINATED, TRUNCATED, flatten
from rltrain.data.dataset import Dataset
from rltrain.data.writer import DatasetWriter
from rltrain.errors import DatasetError


def dataset_of_buffer(
    buffer: Any, out: str | Path, *, env_id: str | None = None, scaled_actions: bool = True, name: str = ""
) -> Dataset:
    """Writes the whole episodes in a ``ReplayBuffer`` or ``DictReplayBuffer`` as a dataset.

    Episodes whose beginning was overwritten, and those that were still running, are left out.

    Args:
        buffer: ``model.replay_buffer``. It must know which ends are timeouts (``handle_timeout_termination``).
        out: The folder to make.
        env_id: The environment, for the dataset to name.
        scaled_actions: Whether Box actions are stored in [-1, 1], as Stable-Baselines3's own agents do, and have to be
            scaled back to the bounds of the action space.
        name: The dataset's name; that of the folder by default.

    Raises:
        DatasetError: It is another kind of buffer, or holds no whole episode.
    """
    if not hasattr(buffer, "timeouts") or not getattr(buffer, "handle_timeout_termination", False):
        raise DatasetError(
            f"A {type(buffer).__name__} does not say how episodes ended.",
            "Give a ReplayBuffer with handle_timeout_termination, or record with 'rltrain record'.",
        )
    size = buffer.buffer_size if buffer.full else buffer.pos
    order = (np.arange(size) + (buffer.pos if buffer.full else 0)) % buffer.buffer_size  # from old to new
    environment = None if env_id is None else {"id": env_id, "options": {}}
    options: dict[str, Any] = {"name": name, "environment": environment, "how": "from a replay buffer"}
    policies = [{"name": "Stable-Baselines3"}]
    with DatasetWriter(out, buffer.observation_space, buffer.action_space, policies=policies, **options) as writer:
        for row in range(buffer.n_envs):
            done = buffer.dones[order, row].astype(bool)
            ends = np.flatnonzero(done).tolist()
            starts = [0, *(end + 1 for end in ends)][: len(ends)]
            for start, end in list(zip(starts, ends, strict=True))[1 if buffer.full else 0 :]:
                _add(writer, buffer, order[start : end + 1], row, scaled_actions)
    return Dataset.open(out)


def _add(writer: DatasetWriter, buffer: Any, steps: np.ndarray, row: int, scaled: bool) -> None:
    """Adds one episode."""
    last = steps[-1:]
    observed = flatten(buffer.observation_space, _rows(buffer.observations, steps, row), OBS)
    known = not buffer.optimize_memory_usage  # which overwrites what the last step led to
    following = buffer.next_observations if known else buffer.observations
    actions, space = buffer.actions[steps, row], buffer.action_space
    if isinstance(space, spaces.Box) and scaled:
        actions = (space.low + 0.5 * (actions + 1.0) * (space.high - space.low)).astype(space.dtype)
    timeout = buffer.timeouts[last, row].astype(bool)
    truncated, terminated = np.zeros(len(steps), bool), np.zeros(len(steps), bool)
    truncated[-1:], terminated[-1:] = timeout, ~timeout
    columns = {
        **observed,
        ACTION: actions.reshape(len(steps), *(space.shape or ())),
        REWARD: buffer.rewards[steps, row],
        TERMINATED: terminated,
        TRUNCATED: truncated,
    }
    finals = flatten(buffer.observation_space, _rows(following, last, row), OBS)
    writer.add(columns, [len(steps)], finals, has_final=known)


def _rows(observations: Any, steps: np.ndarray, row: int) -> Any:
    """Observations of some steps of one environment, in the form of their space."""
    if isinstance(observations, dict):
        return {key: part[steps, row] for key, part in observations.items()}
    return observations[steps, row]
