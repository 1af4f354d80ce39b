"""What somebody handed in as an environment, in words: the errors for what rltrain cannot train in as it is."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec

from rltrain.adapters.given import NotAsPromised, Part
from rltrain.adapters.masks import MaskReader, mask_elsewhere
from rltrain.adapters.rewards import check_number
from rltrain.adapters.spaces import Leaf
from rltrain.errors import ConfigError
from rltrain.naming.reasons import OLD_GYM, fix_at, reason_of, remedy_for
from rltrain.rng import global_kept

FOREIGN = {
    "gym": OLD_GYM,
    "pettingzoo": (
        "an environment of PettingZoo, in which several agents act",
        "rltrain trains one agent: write a gymnasium.Env in which one of them acts and fixed policies play the others.",
    ),
    "dm_env": ("an environment of dm_env", "Wrap it: pip install 'shimmy[dm-control]', or register it with Gymnasium."),
    "dm_control": ("a task of dm_control", "Wrap it: pip install 'shimmy[dm-control]', and name dm_control/...-v0."),
    "stable_baselines3": (
        "a vector environment of Stable-Baselines3",
        "Give the environment inside, by its id, class or a function that makes it; --num-envs says how many.",
    ),
}
"""What an object is by the package that its class, or a base of it, comes from; and what to do."""


def refusal(thing: Any, name: str = "") -> ConfigError:
    """The error for something that is no environment class of Gymnasium's, and no id.

    Args:
        thing: What was handed in.
        name: What to call it, if not by its class.
    """
    cls = thing if isinstance(thing, type) else type(thing)
    called = name or cls.__name__
    for base in cls.__mro__:
        package = base.__module__.partition(".")[0]
        if package in FOREIGN:
            what, fix = FOREIGN[package]
            return ConfigError(f"'{called}' is {what}.", fix)
    if isinstance(thing, EnvSpec):
        return ConfigError(f"'{thing.id}' is given as its registration.", f"Give its id: '{thing.id}'.")
    if isinstance(thing, list | tuple) and any(map(callable, thing)):
        return ConfigError(
            f"'{called}' holds functions, and rltrain makes environments side by side by itself.",
            "Give one function that makes an environment; --num-envs says how many.",
        )
    if isinstance(thing, gymnasium.vector.VectorEnv) or issubclass(cls, gymnasium.vector.VectorEnv):
        return ConfigError(
            f"'{called}' is a vector environment, and rltrain makes its own from single ones.",
            "Give the single environment, by its id, class or a function that makes it; --num-envs says how many.",
        )
    if hasattr(cls, "possible_agents") or hasattr(thing, "possible_agents"):
        what, fix = FOREIGN["pettingzoo"]
        return ConfigError(f"'{called}' is {what}.", fix)
    if any((base.__module__, base.__name__) == ("rltrain.env", "TensorEnv") for base in cls.__mro__):
        return ConfigError(
            f"'{called}' is one object of an environment's class.",
            f"Give the class: {cls.__name__}, not {cls.__name__}().",
        )
    if isinstance(thing, gymnasium.Env):
        return ConfigError(
            f"'{called}' is one object, and as many are made as are to be stepped.",
            f"Give its class, {cls.__name__}, with arguments in env_kwargs, or a function that makes one.",
        )
    if callable(getattr(cls, "reset", None)) and callable(getattr(cls, "step", None)):
        return ConfigError(
            f"'{called}' has reset and step, but is no gymnasium.Env.",
            "Derive it from gymnasium.Env: reset(*, seed, options) returns (obs, info), step(action) five values.",
        )
    return ConfigError(
        f"'{called}' is not an environment.",
        "Give an id, a TensorEnv class, a gymnasium.Env class, or a function that makes one.",
    )


_tried: dict[Any, int] = {}
"""What :func:`try_out` returned, by key."""


@global_kept()
def try_out(
    env: gymnasium.Env,
    name: str,
    key: Any,
    *,
    masks: bool,
    leaves: Sequence[Leaf] = (),
    weights: Sequence[float] | None = None,
) -> int:
    """Resets an environment and takes one step, so that the interface of old Gym is refused by name.

    What goes wrong in the step otherwise is left to the training, which may know better which actions are allowed.

    Args:
        env: The environment, as ``gymnasium.make`` made it.
        name: Its id.
        key: Where the same key was tried before, nothing is done: some environments take seconds to reset.
        masks: Whether to look for a mask.
        leaves: The parts that its observations must have.
        weights: Weights of the numbers of a reward that has several.

    Returns:
        The entries of the mask that it gives outside its observation; 0 if it gives none, or none is looked for.

    Raises:
        ConfigError: ``reset`` fails, ``reset`` or ``step`` returns something other than Gymnasium's, the observation
            is not one of its space, or the mask does not fit the actions.
    """
    key = key, masks
    if key in _tried:
        return _tried[key]
    fix = "Return (obs, info) from reset(seed=..., options=...), and five values from step."
    try:
        result = env.reset(seed=0)
    except Exception as error:
        if isinstance(error, TypeError) and "unexpected keyword" in str(error):
            raise ConfigError(f"'{name}' has the interface of old Gym: {reason_of(error)}.", fix) from error
        what, cure = remedy_for(error) or ("", fix_at(error))
        cause = f"'{name}' needs {what}" if what else f"'{name}' fails in reset: {reason_of(error)}"
        raise ConfigError(f"{cause}.", cure) from error
    if isinstance(result, tuple) and len(result) == 2 and not isinstance(result[1], dict):
        raise ConfigError(
            f"'{name}' returns {reprlib.repr(result[1])} as info from reset.", "Return (obs, info) with a dict: {}."
        )
    if not (isinstance(result, tuple) and len(result) == 2):
        raise ConfigError(f"'{name}' has the interface of old Gym: reset returns {_kinds(result)}.", fix)
    try:
        for leaf in leaves:
            Part(np.empty((1, *leaf.shape), leaf.dtype), leaf).write(0, result[0])
    except NotAsPromised as error:
        raise ConfigError(
            f"'{name}' breaks its promise in reset: {error}.",
            "Mend the environment, or its spaces; 'rltrain check' looks through both.",
        ) from error
    size = mask_elsewhere(env, result[1], name) if masks else 0
    try:
        reader = MaskReader(env.unwrapped)
        reader.read(*result)
        reader.action_space.seed(0)
        outcome = env.unwrapped.step(reader.sample())
    except Exception:
        return size
    if not (isinstance(outcome, tuple) and len(outcome) == 5):
        raise ConfigError(f"'{name}' has the interface of old Gym: step returns {_kinds(outcome)}.", fix)
    reward: Any = outcome[1]
    if np.ndim(reward) == 1 and (number := np.size(reward)) > 1:
        check_number(number, weights, name)
    _tried[key] = size
    return size


def _kinds(result: Any) -> str:
    if isinstance(result, tuple):
        return f"{len(result)} values ({', '.join(type(each).__name__ for each in result)})"
    return f"one {type(result).__name__}"
