"""Shared by adapters to libraries other than Gymnasium: the import, and constructor arguments."""

from __future__ import annotations

import importlib
import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from types import ModuleType
from typing import Any

from rltrain.errors import ConfigError, did_you_mean
from rltrain.make import OPTIONS
from rltrain.naming.reasons import did_you_mean_env, reason_of, remedy_for
from rltrain.registry import EnvSpec


@contextmanager
def quiet() -> Iterator[None]:
    """Suppresses what libraries print while an environment is made, which users cannot act on."""
    with warnings.catch_warnings(), redirect_stdout(StringIO()):
        warnings.simplefilter("ignore")
        yield


def import_for(id: str, module: str, extra: str) -> ModuleType:
    """Imports the module that an environment needs, without the messages it prints.

    Raises:
        ConfigError: It is not installed, or cannot be imported.
    """
    package = module.partition(".")[0]
    try:
        with quiet():
            importlib.import_module(package)
            return importlib.import_module(module)
    except Exception as error:
        install = f"pip install 'rltrain[{extra}]'"
        if isinstance(error, ImportError) and error.name == package:
            raise ConfigError(f"'{id}' needs the package {package}, which is not installed.", install) from error
        if remedy := remedy_for(error):
            raise ConfigError(f"'{id}' needs {remedy[0]}.", remedy[1]) from error
        what = f"'{id}' needs the package {package}, which cannot be imported: {reason_of(error)}."
        raise ConfigError(what, install) from error


def unknown_id(id: str, known: list[str]) -> ConfigError:
    """The error for an id that a library does not have."""
    library = id.partition("/")[0]
    listing = f"{library} has: {', '.join(sorted(known)[:20])}{', ...' if len(known) > 20 else ''}."
    return ConfigError(f"There is no environment '{id}'.", did_you_mean_env(id, known, listing))


def constructor_arguments(creator: Callable[..., Any]) -> dict[str, Any]:
    """The constructor arguments of an environment, with their defaults."""
    return {
        name: parameter.default
        for name, parameter in inspect.signature(creator).parameters.items()
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    }


def check_arguments(spec: EnvSpec, kwargs: Mapping[str, Any]) -> None:
    """Checks constructor arguments against the parameters of an environment.

    Raises:
        ConfigError: One is unknown, or an option for Gymnasium's environments only.
    """
    known = spec.parameters or {}
    for name in kwargs:
        if name in OPTIONS[1]:
            raise ConfigError(
                f"'{name}' is not for '{spec.id}', which {spec.group} steps by itself.",
                f"Leave --env.{name.replace('_', '-')} out.",
            )
        if name not in known:
            listing = f"It takes: {', '.join(known) or 'none'}."
            raise ConfigError(f"'{spec.id}' has no constructor argument '{name}'.", did_you_mean(name, known, listing))
