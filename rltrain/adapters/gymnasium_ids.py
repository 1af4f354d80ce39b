"""Gymnasium's registered environments: found by id, made with checked arguments, and errors in plain words."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium
from gymnasium import error as gymnasium_errors
from gymnasium.envs.registration import EnvSpec as GymnasiumSpec
from gymnasium.envs.registration import load_env_creator

from rltrain.adapters.loop import Recipe
from rltrain.errors import ConfigError, RLTrainError, did_you_mean
from rltrain.registry import EnvSpec

VECTORIZER = "rltrain.adapters.from_gymnasium:GymVecEnv"
HOMES = {
    "ALE/": ("ale_py", "ale-py"),
    "BabyAI-": ("minigrid", "minigrid"),
    "MiniGrid-": ("minigrid", "minigrid"),
    "MiniWorld-": ("miniworld", "miniworld"),
    "MinAtar/": ("minatar.gym", "minatar"),
}
"""The module that registers well-known ids, and what to install for it, by how the ids begin."""
EXTRAS = {"ale_py": "ale-py", "Box2D": "gymnasium[box2d]", "mujoco": "gymnasium[mujoco]", "cv2": "opencv-python"}
"""What to install for a missing module."""


def find(id: str) -> EnvSpec | None:
    """The environment that Gymnasium has under an id; None if it has none.

    The packages of :data:`HOMES` are imported for their ids; all others are expected to have been imported.

    Raises:
        ConfigError: The id belongs to a well-known package that is not installed.
    """
    if id not in gymnasium.registry:
        home = next((home for start, home in HOMES.items() if id.startswith(start)), None)
        if home is not None:
            _import_home(id, *home)
    spec = gymnasium.registry.get(id)
    return None if spec is None else _adapted(spec)


def of_class(cls: type[gymnasium.Env]) -> EnvSpec:
    """A class that is not registered, under its own name."""
    return _adapted(GymnasiumSpec(cls.__name__, entry_point=cls))  # type: ignore[arg-type]


def _adapted(spec: GymnasiumSpec) -> EnvSpec:
    return EnvSpec(
        spec.id,
        spec.entry_point,  # type: ignore[arg-type]
        description=f"Gymnasium's {spec.id}",
        group="gymnasium",
        max_episode_steps=spec.max_episode_steps,
        reward_threshold=spec.reward_threshold,
        vectorizer=VECTORIZER,
        batched=False,
    )


def _import_home(id: str, module: str, package: str) -> None:
    try:
        home = importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"'{id}' needs the package {package}, which is not installed.", f"pip install {package}"
        ) from error
    register = getattr(home, "register_envs", None)
    if register is not None and id not in gymnasium.registry:
        register()


def make_recipe(
    spec: EnvSpec, kwargs: dict[str, Any], max_episode_steps: int | None, *, atari: bool, render: bool
) -> Recipe:
    """The recipe of an environment, with checked constructor arguments.

    Raises:
        ConfigError: An argument is unknown, something is not installed, or the environment cannot be drawn.
    """
    creator = load_creator(spec)
    known = constructor_parameters(creator)
    if atari and known is not None and "frameskip" not in known:
        raise ConfigError(f"'{spec.id}' is not an Atari game: its frames cannot be prepared.", "Leave --env.atari out.")
    for key in kwargs:
        if known is not None and key not in known:
            listing = f"It takes: {', '.join(known) or 'none'}."
            raise ConfigError(f"'{spec.id}' has no constructor argument '{key}'.", did_you_mean(key, known, listing))
    modes = getattr(creator, "metadata", {}).get("render_modes", [])
    if render and modes and "rgb_array" not in modes:
        raise ConfigError(
            f"'{spec.id}' draws no pictures.", f"It would need the render mode rgb_array; it has {modes}."
        )
    registered = gymnasium.registry.get(spec.id)
    if registered is None or registered.entry_point != spec.entry_point:
        registered = GymnasiumSpec(spec.id, entry_point=spec.entry_point)  # type: ignore[arg-type]
    return Recipe(registered, dict(kwargs), max_episode_steps, atari, "rgb_array" if render else None)


def load_creator(spec: EnvSpec) -> Any:
    """The class or function that makes the environment.

    Raises:
        ConfigError: It cannot be imported.
    """
    with named_errors(spec.id):
        return load_env_creator(spec.entry_point) if isinstance(spec.entry_point, str) else spec.entry_point


def constructor_parameters(creator: Any) -> dict[str, Any] | None:
    """The arguments of a constructor with their defaults; None if it takes any."""
    parameters = inspect.signature(creator).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return None
    return {
        name: parameter.default
        for name, parameter in parameters.items()
        if name != "render_mode" and parameter.kind is not parameter.VAR_POSITIONAL
    }


@contextmanager
def named_errors(id: str) -> Iterator[None]:
    """Turns whatever making an environment raises into one line for the cause and one for the fix.

    Raises:
        ConfigError: Instead of any error that is not one of rltrain's.
    """
    try:
        yield
    except RLTrainError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()).rstrip(".")
        missing = getattr(error, "name", None) if isinstance(error, ImportError) else None
        command = re.findall(r"pip install [^`'\s]*(?:\"[^\"]+\"|[^`'\s,]+)", str(error))
        if missing is not None:
            package = EXTRAS.get(missing.partition(".")[0], missing.partition(".")[0])
            raise ConfigError(f"'{id}' needs {missing}, which is not installed.", f'pip install "{package}"') from error
        if isinstance(error, gymnasium_errors.DependencyNotInstalled):
            fix = command[-1] if command else "Install what is named there."
            raise ConfigError(f"'{id}' needs something that is not installed: {reason}.", fix) from error
        raise ConfigError(
            f"'{id}' cannot be made: {type(error).__name__}: {reason}.", "--debug shows where it failed."
        ) from error
