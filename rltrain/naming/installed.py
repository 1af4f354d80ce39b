"""Installed packages that may bring the environment that was named, found without importing any of them."""

from __future__ import annotations

import re
from importlib import metadata
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any

from rltrain.errors import ConfigError

SHOWN = 8


def modules_with_envs() -> list[str]:
    """Modules of the installed packages that need Gymnasium, except rltrain and the packages that it can use."""
    own = {package_name("rltrain"), *(package_name(needed) for needed in _requirements("rltrain"))}
    homes = metadata.packages_distributions()
    needing = {
        package
        for package in set(chain.from_iterable(homes.values()))
        if package_name(package) not in own and "gymnasium" in map(package_name, _requirements(package, extras=False))
    }
    return sorted(
        module
        for module, packages in homes.items()
        if needing.intersection(packages) and module.isidentifier() and not module.startswith("_")
    )


def need(*modules: str, install: str) -> None:
    """Checks that optional libraries are installed, without importing them.

    Args:
        *modules: Their modules.
        install: What pip is told to install them, such as ``rltrain[onnx]``.

    Raises:
        ConfigError: One is not.
    """
    for name in modules:
        if find_spec(name) is None:
            what = f"'{install}'" if "[" in install else install
            raise ConfigError(f"The package {name} is not installed.", f"Run: pip install {what}")


def module_fix(id: str) -> str:
    """A sentence that says how to name an environment of a module, with the modules that may have it."""
    modules = modules_with_envs()
    if not modules:
        return f"Write module:{id}, or module:Class, for one of a module."
    if alike := [module for module in modules if _words(module) & _words(id)]:
        return f"Write {alike[0]}:{id} for one of the module {alike[0]}, which is installed."
    listing = f"{', '.join(modules[:SHOWN])}{', ...' if len(modules) > SHOWN else ''}"
    return f"Write module:{id} for one of a module; these here may have it: {listing}."


def is_installed(thing: Any) -> bool:
    """Whether an entry point lies in an installed package, which its user did not write and does not change.

    Args:
        thing: ``module:name``, a class or a function.
    """
    module = thing.partition(":")[0] if isinstance(thing, str) else getattr(thing, "__module__", "")
    try:
        found = find_spec(module.partition(".")[0])
    except (ImportError, ValueError):
        return False
    place = (found.origin if found is not None else None) or ""
    return bool({"site-packages", "dist-packages"}.intersection(Path(place).parts))


def _words(name: str) -> set[str]:
    """The words of a name that tell it from others."""
    return {word for word in re.split(r"[\W_]+", name.lower()) if len(word) > 2} - {"env", "envs", "gym", "gymnasium"}


def _requirements(package: str, *, extras: bool = True) -> list[str]:
    try:
        needed = metadata.requires(package) or []
    except metadata.PackageNotFoundError:
        return []
    return [each for each in needed if extras or "extra ==" not in each]


def package_name(requirement: str) -> str:
    """The name in a requirement such as ``Stable_Baselines3>=2.7``, as package registries compare it."""
    found = re.match(r"[\w.-]+", requirement)
    return re.sub(r"[-_.]+", "-", found[0]).lower() if found else ""
