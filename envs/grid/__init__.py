"""Worlds of square cells: MiniGrid's tasks, and puzzles with levels to generalise over."""

from typing import Any

from rltrain.registry import register_env


def register() -> None:
    """Registers the family."""
    empty = "Cross an empty room to the goal, seeing only what is near."
    _minigrid("Empty-5x5", "empty:Empty", empty, 100, size=5)
    _minigrid("Empty-Random-5x5", "empty:Empty", empty, 100, size=5, random_start=True)
    _minigrid("Empty-8x8", "empty:Empty", empty, 256, size=8)
    key = "Take the key, unlock the door with it, and go to the goal behind it."
    _minigrid("DoorKey-5x5", "door_key:DoorKey", key, 250, size=5)
    _minigrid("DoorKey-6x6", "door_key:DoorKey", key, 360, size=6)
    _minigrid("DoorKey-8x8", "door_key:DoorKey", key, 640, size=8)


def _minigrid(name: str, where: str, description: str, max_steps: int, **kwargs: Any) -> None:
    """A task under MiniGrid's own name, with MiniGrid's time limit."""
    register_env(
        f"rltrain/MiniGrid-{name}-v0",
        f"rltrain.envs.grid.{where}",
        group="grid",
        description=description,
        max_episode_steps=max_steps,
        kwargs=kwargs,
    )
