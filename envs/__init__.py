"""The built-in environments, one folder for each family. Importing this does not import torch."""

if __name__ != "rltrain.envs":
    raise ImportError(f"import this package as 'rltrain.envs', not as '{__name__}'")

from importlib import import_module

FAMILIES = ("business", "classic", "control", "explore", "goal", "grid", "memory", "minatar", "toy")


def register() -> None:
    """Registers every built-in environment; called through the entry-point group ``rltrain.envs``."""
    for family in FAMILIES:
        import_module(f"rltrain.envs.{family}").register()
