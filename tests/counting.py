"""A Gymnasium environment that counts, so that every number it returns can be predicted."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

OBSERVATIONS: dict[str, spaces.Space] = {
    "vector": spaces.Box(-np.inf, np.inf, (3,), np.float64),
    "bytes": spaces.Box(0, 255, (6, 6, 3), np.uint8),
    "wide": spaces.Box(0, 1000, (2,), np.uint16),
    "discrete": spaces.Discrete(100, start=-5),
    "multi": spaces.MultiDiscrete([[9, 100], [9, 100]]),
    "binary": spaces.MultiBinary((2, 2)),
    "nested": spaces.Dict(
        {
            "deep": spaces.Dict({"count": spaces.Box(0, 100, (1,), np.float32)}),
            "pair": spaces.Tuple((spaces.Discrete(100), spaces.MultiBinary(2))),
            "words": spaces.Text(5),
        }
    ),
    "graph": spaces.Graph(spaces.Box(0, 1, (2,)), None),
    "text": spaces.Text(5),
}
ACTIONS: dict[str, spaces.Space] = {
    "two": spaces.Discrete(2),
    "shifted": spaces.Discrete(3, start=-1),
    "box": spaces.Box(np.array([-2.0, 0.0]), np.array([2.0, 10.0]), dtype=np.float64),
    "bytes": spaces.Box(0, 255, (2,), np.uint8),
    "multi": spaces.MultiDiscrete([[2, 3], [4, 5]]),
    "binary": spaces.MultiBinary((2, 2)),
    "words": spaces.Text(3),
}


class Counting(gymnasium.Env[Any, Any]):
    """An episode has ``length`` steps; the reward of a step is its number in the episode.

    Args:
        length: Steps until it is terminated.
        cut: Steps until it truncates itself.
        observation: Kind of observation; a vector holds the seed's digits, the number of episodes, and of steps.
        action: Kind of action.
        success: Whether ``info`` says ``is_success`` at the end.
        kill_at: Step in which the process is killed.
        spare: The process that is not.
        fail_at: Step in which an error is raised.
        slow: Seconds that a step takes.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}  # noqa: RUF012

    def __init__(
        self,
        length: int = 4,
        cut: int | None = None,
        observation: str = "vector",
        action: str = "two",
        success: bool = False,
        kill_at: int | None = None,
        spare: int | None = None,
        fail_at: int | None = None,
        slow: float = 0.0,
        render_mode: str | None = None,
    ) -> None:
        self.length, self.cut, self.success = length, cut, success
        self.kill_at, self.spare, self.fail_at, self.slow = kill_at, spare, fail_at, slow
        self.kind = observation
        self.observation_space = OBSERVATIONS[observation]
        self.action_space = ACTIONS[action]
        self.render_mode = render_mode
        self.episodes = self.steps = self.total = 0
        self.actions: list[Any] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.episodes = 0
        self.draw = self.np_random.integers(1000)
        self.episodes += 1
        self.steps = 0
        return self.observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), action
        self.steps += 1
        self.total += 1
        self.actions.append(action)
        if self.total == self.kill_at and os.getpid() != self.spare:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.total == self.fail_at:
            raise ZeroDivisionError("as was asked for")
        time.sleep(self.slow)
        terminated = self.steps >= self.length
        info = {"is_success": self.episodes % 2 == 0} if self.success and terminated else {}
        return self.observe(), float(self.steps), terminated, self.steps == self.cut, info

    def observe(self) -> Any:
        e, s = self.episodes, self.steps
        return {
            "vector": lambda: np.array([self.draw, e, s], dtype=np.float64),
            "bytes": lambda: np.full((6, 6, 3), s, np.uint8),
            "wide": lambda: np.array([e, s], dtype=np.uint16),
            "discrete": lambda: np.int64(s - 5),
            "multi": lambda: np.array([[e % 9, s], [0, 1]]),
            "binary": lambda: np.array([[s % 2, 1], [0, e % 2]], dtype=np.int8),
            "nested": lambda: {
                "deep": {"count": np.array([s], dtype=np.float32)},
                "pair": (s, np.array([e % 2, s % 2], dtype=np.int8)),
                "words": "hello",
            },
        }[self.kind]()

    def render(self) -> np.ndarray:
        return np.full((4, 6, 3), self.steps, np.uint8)


def register() -> None:
    """Makes it known to Gymnasium as ``Counting-v0``, with a time limit of 7 steps."""
    if "Counting-v0" not in gymnasium.registry:
        gymnasium.register("Counting-v0", entry_point="counting:Counting", max_episode_steps=7)


register()
