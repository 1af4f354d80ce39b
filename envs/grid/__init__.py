"""Worlds of square cells: MiniGrid's tasks, and puzzles with levels to generalise over."""


def register() -> None:
    """Registers the family."""
