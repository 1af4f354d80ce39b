"""Gymnasium environments that give an action mask in each of the known ways, and refuse what it forbids."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces

LENGTH, ACTIONS = 12, 4


class Corridor(gymnasium.Env[Any, Any]):
    """One action is allowed at a time, and any other raises. Subclasses say where the mask is.

    Args:
        ends: How an episode ends: ``terminated`` or ``truncated``; its last mask allows nothing.
        stuck_at: Step after which the mask allows nothing although the episode goes on; 0 for never.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 30}
    action_space = spaces.Discrete(ACTIONS)
    board: spaces.Space = spaces.Box(-100.0, 100.0, (3,), np.float32)

    def __init__(self, ends: str = "terminated", stuck_at: int = 0, render_mode: str | None = None) -> None:
        self.ends, self.stuck_at, self.render_mode = ends, stuck_at, render_mode
        self.observation_space = self.board
        self.place = 0

    @property
    def allowed(self) -> np.ndarray:
        mask = np.zeros(ACTIONS, np.int8)
        if self.place < LENGTH and not (self.stuck_at and self.place >= self.stuck_at):
            mask[(self.place * 7 + 1) % ACTIONS] = 1
        return mask

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.place = 0
        return self.observe(), self.info()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if not self.allowed[int(action)] and not self.stuck_at:
            raise RuntimeError(f"illegal move {action}")
        self.place += 1
        over = self.place >= LENGTH
        return self.observe(), 1.0, over and self.ends == "terminated", over and self.ends == "truncated", self.info()

    def observe(self) -> Any:
        return np.full(3, 10 * self.place, np.float32)

    def info(self) -> dict[str, Any]:
        return {}

    def render(self) -> Any:
        return np.full((20, 30, 3), 10 * self.place, np.uint8)


class InInfo(Corridor):
    """The convention of Gymnasium's Taxi."""

    def info(self) -> dict[str, Any]:
        return {"action_mask": self.allowed}


class ByMethod(Corridor):
    """The convention of sb3-contrib."""

    def action_masks(self) -> np.ndarray:
        return self.allowed.astype(bool)


class InObservation(Corridor):
    """The convention of rltrain, with a mask of any type."""

    def __init__(self, kind: str = "int8", **options: Any) -> None:
        super().__init__(**options)
        self.dtype = np.dtype(kind)
        self.observation_space = spaces.Dict({"board": self.board, "action_mask": self.mask_space()})

    def mask_space(self) -> spaces.Space:
        if self.dtype == np.int8:
            return spaces.MultiBinary(ACTIONS)
        return spaces.Box(0, 1, (ACTIONS,), self.dtype.type)

    def observe(self) -> Any:
        return {"board": super().observe(), "action_mask": self.allowed.astype(self.dtype)}
