"""Machines with their equations of motion, to be steered with continuous or few actions."""


def register() -> None:
    """Registers the family."""
