"""The environment of a run, where its id alone does not name it: a module's, a class of the user's, lost arguments."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rltrain.config import TrainConfig
from rltrain.errors import CheckpointError, ConfigError
from rltrain.make import taken_apart
from rltrain.naming.environments import typed_env
from rltrain.registry import env_spec, find_env, spec_of
from rltrain.runs.folder import RunFolder
from rltrain.storage.values import not_held

ORIGIN = "env_origin"
"""The entry of the metadata with ``module:Id``, for people: it is never imported."""


def origin_in(folder: RunFolder) -> str:
    """``module:Id`` by which the environment of a run was named, or could be; empty if its id is enough."""
    try:
        origin = str(folder.metadata().get(ORIGIN, ""))
    except CheckpointError:
        return ""
    return origin if re.fullmatch(r"[\w.]+:[\w./:-]*", origin) else ""


def env_option(run: str | Path) -> str:
    """`` --env module:Id`` behind the name of a run in a command; empty where it is not needed."""
    origin = origin_in(RunFolder(Path(run)))
    return f" --env {shlex.quote(origin)}" if origin else ""


def named_env(folder: RunFolder, trained_in: str, given: Any) -> Any:
    """The environment of a run: its id, or the class or function that was given in its place.

    Args:
        folder: The run.
        trained_in: The id in its configuration.
        given: None; an id or ``module:Id``, whose module is imported; a class, function or environment.

    Raises:
        ConfigError: An id is given, and it is not that of the run.
    """
    given, _ = taken_apart(given)
    if given is None:
        return trained_in
    if not isinstance(given, str):
        spec_of(given)  # raises if it is no environment
        return given
    spec = env_spec(typed_env(given))
    if spec.id != trained_in:
        raise ConfigError(
            f"'{folder.path}' was trained in '{trained_in}', not in '{spec.id}'.",
            f"Name {origin_in(folder) or f'MODULE:{trained_in}'}.",
        )
    return trained_in


def check_known(env: Any, origin: str) -> None:
    """Checks that the environment of a run is registered here.

    Raises:
        ConfigError: It is not; the fix says how to name it.
    """
    if not isinstance(env, str) or find_env(env) is not None:
        return
    raise ConfigError(
        f"The environment '{env}' that this policy was trained in is not registered here.",
        f"Name its module: --env {origin}; from Python, rltrain.load(run, env='{origin}') or env=TheClass."
        if origin
        else "Install the package it comes from, or name the module: --env module:Id; "
        "for a class of your own, use rltrain.load(run, env=TheClass).",
    )


def given_again(config: TrainConfig, arguments: Mapping[str, Any] | None, *, only_lost: bool) -> TrainConfig:
    """The configuration of a run with constructor arguments that its folder could not hold.

    Args:
        config: The configuration.
        arguments: The arguments by name.
        only_lost: Whether others than those are refused.

    Raises:
        ConfigError: One of them is in the folder.
    """
    if not arguments:
        return config
    lost = not_held(config.env.kwargs)
    if only_lost and (held := next((name for name in arguments if name not in lost), None)):
        raise ConfigError(
            f"env_kwargs has '{held}', and a resumed run goes on with what is in its folder.",
            f"Give only what is not there: {', '.join(lost) or 'nothing'}.",
        )
    env = config.env.model_copy(update={"kwargs": {**config.env.kwargs, **arguments}})
    return config.model_copy(update={"env": env})
