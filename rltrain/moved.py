"""Keeps old import paths from the documentation working after modules have moved."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

MODULES = {
    "rltrain.adapters.sb3": "rltrain.sb3.vec_env",
    "rltrain.agents.distributions": "rltrain.agents.parts.distributions",
    "rltrain.agents.networks": "rltrain.agents.parts.networks",
    "rltrain.agents.optim": "rltrain.agents.parts.optim",
    "rltrain.agents.rollout": "rltrain.agents.parts.rollout",
}
"""Where each module is now, by the name it had."""


class MovedModule:
    """Loads a moved module under its old name."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """A module with everything that the moved one has."""
        module, moved = ModuleType(spec.name), importlib.import_module(MODULES[spec.name])
        module.__dict__.update({name: value for name, value in vars(moved).items() if not name.startswith("__")})
        module.__doc__ = moved.__doc__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Does nothing: the module was already executed under its new name."""


class MovedModules:
    """Finds moved modules by their old names."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The specification of a moved module; None for every other name."""
        return ModuleSpec(name, MovedModule()) if name in MODULES else None  # type: ignore[arg-type]


def install() -> None:
    """Makes the old names importable unless another module has them."""
    if not any(isinstance(finder, MovedModules) for finder in sys.meta_path):
        sys.meta_path.append(MovedModules())
