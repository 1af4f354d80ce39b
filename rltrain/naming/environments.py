"""Environments named by the module they are in: ``module:Id``, ``module:Class``, ``module:function`` and ``module:``.

Only a person who types such a name causes the import. What is found is known by its bare name from then on, in this
process.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import gymnasium

from rltrain.errors import ConfigError
from rltrain.naming.reasons import OLD_GYM, command_in, did_you_mean_env, reason_of, remedy_for
from rltrain.plugins import path_of
from rltrain.registry import EnvSpec, env_specs, find_env, is_tensor_class, spec_of

_typed: dict[str, EnvSpec] = {}  # classes and functions that nobody registered, by their names
_origins: dict[str, str] = {}  # module:Id as it was typed, by id
_news: dict[str, set[str]] = {}  # the ids that were there after a module's import and not before, by module


def find_typed(name: str) -> EnvSpec | None:
    """The unregistered class or function that was named before in this process; None if there is none."""
    return _typed.get(name)


def find(module: str, name: str, id: str) -> EnvSpec:
    """The environment called ``name``, after its module was imported.

    Args:
        module: The module.
        name: An id that it registers, or a class or function in it; empty for the only environment that it has.
        id: All of it, for errors.

    Raises:
        ConfigError: The module cannot be imported, or has no such environment.
    """
    before = {*env_specs(), *gymnasium.registry}
    try:
        home = importlib.import_module(module)
        spec = _registered(name)
        # Some packages register only when asked to; Gymnasium's function of this name is for them to be given to.
        if spec is None and (register := _own_register(home)):
            register()
            spec = _registered(name)
        if spec is None and name and not hasattr(home, name) and _has_envs(home):
            importlib.import_module(f"{module}.envs")  # other packages register in there
            spec = _registered(name)
    except (Exception, SystemExit) as error:  # importing a module can raise anything
        raise _not_imported(module, id, error) from error
    if spec is None:
        everything: dict[str, Any] = {**gymnasium.registry, **env_specs()}
        news = _news.setdefault(module, everything.keys() - before)
        ids = sorted(news | {each for each in everything if _is_of(each, everything[each].entry_point, module)})
        classes = [key for key, value in vars(home).items() if _is_env_class(value) and value.__module__ == module]
        options = ids or classes
        if not name and len(options) == 1:
            name = options[0]
        thing = getattr(home, name, None) if name.isidentifier() else None
        spec = (find_env(name) if name in ids else None) or (_unregistered(thing) if callable(thing) else None)
        if spec is None and (old := _of_old_gym(module, name)):
            raise ConfigError(f"'{old}' is {OLD_GYM[0]}.", OLD_GYM[1])
        if spec is None:
            listing = f"It has: {', '.join(options[:20])}{', ...' if len(options) > 20 else ''}."
            fix = listing if options else "Name a class in it, or a function that makes an environment."
            if not name and options:
                cause = f"The module '{module}' has {len(options)} environments."
                raise ConfigError(cause, f"Name one, as in {module}:{options[0]}. {listing}")
            called = f" '{name}'" if name else ""
            raise ConfigError(
                f"The module '{module}' has no environment{called}.", did_you_mean_env(name, options, fix)
            )
    _origins[spec.id] = f"{module}:{name}"
    return spec


def _of_old_gym(module: str, name: str) -> str:
    """The id by which a module registers an environment with Gym instead of Gymnasium; empty if it does not.

    Args:
        module: The module, which was imported.
        name: The name that was typed; empty for any.
    """
    if "gym" not in sys.modules:
        return ""
    registry = getattr(getattr(sys.modules["gym"], "envs", None), "registry", {})
    known: Any = getattr(registry, "env_specs", registry)  # before Gym 0.26
    ids = [id for id, spec in known.items() if name in ("", id) and _is_of(id, spec.entry_point, module)]
    return ids[0] if ids else ""


def _own_register(home: ModuleType) -> Callable[[], Any] | None:
    """The function by which a module registers its environments when asked to; None if it has none.

    A function ``register`` has to be its own, since many modules import Gymnasium's, and to need no arguments.
    """
    if home is gymnasium or callable(told := getattr(home, "register_envs", None)):
        return None if home is gymnasium else told
    function = getattr(home, "register", None)
    if not inspect.isfunction(function) or function.__module__.partition(".")[0] != home.__name__.partition(".")[0]:
        return None
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = inspect.signature(function).parameters.values()
    alone = all(each.default is not each.empty or each.kind in variadic for each in parameters)
    return function if alone else None


def _has_envs(home: ModuleType) -> bool:
    """Whether a module is a package with a module ``envs``, which need not be imported yet."""
    return hasattr(home, "__path__") and importlib.util.find_spec(f"{home.__name__}.envs") is not None


def _registered(name: str) -> EnvSpec | None:
    """The environment registered under a name; one that was only named before does not count."""
    return find_env(name) if name and name not in _typed else None


def _not_imported(module: str, id: str, error: BaseException) -> ConfigError:
    missing = error.name if isinstance(error, ModuleNotFoundError) and error.name else None
    if missing is not None and f"{module}.".startswith(f"{missing}."):
        fix = "Check its name; it must be installed in this environment, or in the folder where rltrain is called."
    elif remedy := remedy_for(error):
        return ConfigError(f"'{id}' needs {remedy[0]}: the import of '{module}' failed.", remedy[1])
    else:
        fix = command_in(error) or "Mend the module, or check its name; --debug shows where it failed."
    return ConfigError(f"The module '{module}' of the environment '{id}' cannot be imported: {reason_of(error)}.", fix)


def _is_of(id: str, entry_point: Any, module: str) -> bool:
    """Whether an id's entry point is in a module, or its namespace that of the module."""
    home = "" if entry_point is None else path_of(entry_point).partition(":")[0]
    return f"{home}.".startswith(f"{module}.") or id.startswith(f"{module}/")


def _is_env_class(thing: object) -> bool:
    return isinstance(thing, type) and (is_tensor_class(thing) or issubclass(thing, gymnasium.Env))


def _unregistered(thing: Any) -> EnvSpec:
    """The spec of a class or function that was named on the command line, so that its name is known from now on."""
    spec = spec_of(thing)
    known = _typed.get(spec.id)
    if known is not None and path_of(known.entry_point) != path_of(spec.entry_point):
        raise ConfigError(
            f"Two environments are called '{spec.id}': {path_of(known.entry_point)} and {path_of(spec.entry_point)}.",
            "Rename one of them, or use them in two processes.",
        )
    _typed[spec.id] = spec
    return spec


def typed_env(name: str) -> str:
    """What a person typed as an environment, with the ``:`` behind it if it is the name of a module alone.

    Only for names that a person typed: :func:`env_spec` then imports the module.
    """
    is_module_name = all(part.isidentifier() for part in name.split("."))
    if not is_module_name or find_env(name) is not None:
        return name
    try:
        found = getattr(importlib.util.find_spec(name), "origin", None) is not None  # not a mere folder
    except (ImportError, ValueError):
        found = False
    return f"{name}:" if found else name


def origin_of(env: Any) -> str:
    """``module:Id`` under which an environment can be named after ``--env``; empty if its id alone is enough."""
    if isinstance(env, str):
        return _origins.get(env, "")
    module, name = getattr(env, "__module__", ""), getattr(env, "__qualname__", "")
    importable = module != "__main__" and getattr(sys.modules.get(module), name, None) is env
    return f"{module}:{name}" if importable else ""
