"""Grid worlds: MiniGrid's tasks, and puzzles with separate levels for training and testing."""

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
    _minigrid("FourRooms", "four_rooms:FourRooms", "Find the goal, anywhere in four rooms.", 100)
    _minigrid("Unlock", "unlock:Unlock", "Take the key and open the locked door with it.", 288)
    corridor = "Search the rooms along a corridor for the key to the locked one, and take the ball in it."
    _minigrid("KeyCorridorS3R1", "key_corridor:KeyCorridor", corridor, 270, room_size=3, num_rows=1)
    _minigrid("KeyCorridorS3R3", "key_corridor:KeyCorridor", corridor, 270, room_size=3, num_rows=3)
    gap = "Reach the goal through the one gap in a strip of lava."
    _minigrid("LavaGapS5", "lava_gap:LavaGap", gap, 100, size=5)
    _minigrid("LavaGapS7", "lava_gap:LavaGap", gap, 196, size=7)
    walls, lava = (f"Reach the goal across {what} with one opening." for what in ("a wall", "a river of lava"))
    _minigrid("SimpleCrossingS9N1", "crossing:Crossing", walls, 324, size=9, num_crossings=1, obstacle="wall")
    _minigrid("LavaCrossingS9N1", "crossing:Crossing", lava, 324, size=9, num_crossings=1, obstacle="lava")
    memory = "Remember an object to the end of a hallway, and go to one of the same kind."
    _minigrid("MemoryS7", "memory:Memory", memory, 245, size=7)
    _minigrid("MemoryS13", "memory:Memory", memory, 845, size=13)
    balls = "Reach the goal without running into moving balls."
    _minigrid("Dynamic-Obstacles-5x5", "dynamic_obstacles:DynamicObstacles", balls, 100, size=5, n_obstacles=2)
    _minigrid("Dynamic-Obstacles-8x8", "dynamic_obstacles:DynamicObstacles", balls, 256, size=8, n_obstacles=4)
    _puzzle("Snake-v0", "snake:Snake", "Eat apples and grow without running into a wall or yourself.", 4000)
    _puzzle("Game2048-v0", "game2048:Game2048", "Slide tiles so that equal ones merge into ever larger ones.", 10_000)
    _puzzle(
        "Sokoban-v0", "sokoban:Sokoban", "Push boxes onto their targets; separate levels for training and testing.", 120
    )
    _puzzle("Maze-v0", "maze:Maze", "Find the way through a maze; separate mazes for training and testing.", 100)


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


def _puzzle(name: str, where: str, description: str, max_steps: int) -> None:
    """A game of its own on a board."""
    register_env(
        f"rltrain/{name}",
        f"rltrain.envs.grid.{where}",
        group="grid",
        description=description,
        max_episode_steps=max_steps,
    )
