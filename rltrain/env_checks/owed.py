"""What the methods of a tensor environment owe: checks of what an author's functions return, with the method named."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor

from rltrain.env import Observation, TensorEnv
from rltrain.errors import ConfigError, RLTrainError
from rltrain.rng import global_kept, make_generator
from rltrain.spaces import entries_of, random_actions
from rltrain.tree import leaves, names


def check_spaces(env: TensorEnv[Any]) -> None:
    """Checks that an environment was initialised and has its spaces.

    Raises:
        ConfigError: A space is missing or is not a Gymnasium space, or ``super().__init__`` was not called.
    """
    name = type(env).__name__
    if not hasattr(env, "device"):
        raise ConfigError(
            f"{name}.__init__ does not call that of TensorEnv.",
            "Call super().__init__(device=device, dtype=dtype) first.",
        )
    for what in ("observation_space", "action_space"):
        space = getattr(env, what, None)
        if not isinstance(space, spaces.Space):
            raise ConfigError(
                f"{name} has no {what}." if space is None else f"{name}.{what} is {space!r}, which is no space.",
                f"Set self.{what} in __init__, or as an attribute of the class, to a Gymnasium space.",
            )


PARAMETERS = {"reset": "(self, n, rng)", "step": "(self, state, action, rng)", "observe": "(self, state)"}
"""What methods take."""


@torch.no_grad()
def check_env(env: TensorEnv[Any]) -> None:
    """Resets and steps a few environments, and checks everything that they return.

    Raises:
        ConfigError: A method does not return what it owes, or fails; the method is named.
    """
    check_spaces(env)
    if env.device.type == "meta":
        return
    n = rows_for(env)
    rng = make_generator(env.device, 0)
    with global_kept():
        with _in(env, "reset"):
            state = env.reset(n, rng)
        check_state(env, state, n)
        with _in(env, "observe"):
            obs = env.full_observe(state)
        check_observation(env, obs, n)
        mask = obs["action_mask"].bool() if env.has_action_mask and isinstance(obs, dict) else None
        action = random_actions(env.action_space, n, env.device, rng, mask)
        with _in(env, "step"):
            outcome = env.step(state, action, rng)
        check_outcome(env, state, outcome)
        with _in(env, "info"):
            info = env.info(outcome[0])
        if not isinstance(info, dict):
            raise _owes(env, f"info returned a {type(info).__name__}", "a dict of tensors (N,)")
        for key, value in info.items():
            _hold(env, f"info returned '{key}'", value, (n,))


def rows_for(env: TensorEnv[Any]) -> int:
    """A number of environments that is no side of an observation, so that sides in a wrong order are seen."""
    sides = {side for space in entries_of(env.full_observation_space).values() for side in space.shape or ()}
    return next(n for n in (2, 3, 5, 7, 11, *range(13, 2**12)) if n not in sides)


@contextmanager
def _in(env: TensorEnv[Any], method: str) -> Iterator[None]:
    try:
        yield
    except RLTrainError:
        raise
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".: ")
        fix = "Mend it: --debug, and 'rltrain check', show where."
        *_, (innermost, _line) = traceback.walk_tb(error.__traceback__)
        by_us = str(innermost.f_globals.get("__name__")).startswith("rltrain.")  # the call itself, not the method
        if isinstance(error, TypeError) and by_us and "argument" in reason and method in PARAMETERS:
            fix = f"It takes {PARAMETERS[method]}."
        raise ConfigError(f"{type(env).__name__}.{method} fails: {reason}.", fix) from error


def check_state(env: TensorEnv[Any], state: Any, n: int) -> None:
    """Checks ``n`` start states.

    Raises:
        ConfigError: They are not a tree of tensors (N, ...).
    """
    owed = "the states alone: a dataclass of tensors (N, ...)"
    if type(state) is tuple and len(state) == 2 and isinstance(state[1], dict):
        rows = [isinstance(each, Tensor) and each.shape[:1] == (n,) for each in state[1].values()]
        if not rows or not all(rows):
            raise _owes(env, "reset returned (state, info)", owed, "Return the state; info is a method of its own.")
    try:
        parts = dict(zip(names(state), leaves(state), strict=True))
    except TypeError as error:
        raise _owes(env, f"reset returned a {type(state).__name__}: {error}", owed) from None
    if not parts:
        raise _owes(env, "reset returned no tensor", owed)
    for name, part in parts.items():
        if part.shape[:1] != (n,):
            raise _owes(
                env,
                f"reset({n}, rng) returned the state's {name or 'tensor'} of shape {tuple(part.shape)}",
                f"({n}, ...)",
            )
        _hold(env, f"reset returned the state's {name or 'tensor'}", part, tuple(part.shape))


def check_observation(env: TensorEnv[Any], obs: Observation, n: int) -> None:
    """Checks the observations of ``n`` environments against the space that the author gave.

    Raises:
        ConfigError: They have another shape, or are not tensors on the environment's device.
    """
    space = env.full_observation_space
    named = obs if isinstance(obs, dict) else {"": obs}
    spaces_of = entries_of(space)
    if named.keys() != spaces_of.keys():
        raise ConfigError(
            f"{type(env).__name__}.observe returned {sorted(named)}, and its observation_space is {space}.",
            "Return the entries of the space, or a tensor where the space is not a Dict.",
        )
    for name, part in named.items():
        what = f"observe returned {name or 'an observation'}"
        _hold(env, what, part, (n, *(spaces_of[name].shape or ())))
        dtype = str(part.dtype).removeprefix("torch.")
        if part.is_floating_point() and part.dtype not in (env.dtype, torch.float32) and dtype != spaces_of[name].dtype:
            raise ConfigError(
                f"{type(env).__name__}.{what} of type {part.dtype}, and its space of type {spaces_of[name].dtype}.",
                f"It owes {env.dtype}: make it with dtype=self.dtype, or give the space dtype=np.{dtype}.",
            )


def check_outcome(env: TensorEnv[Any], before: Any, outcome: Any) -> None:
    """Checks what a step returned: the number of values, and their types and shapes.

    Raises:
        ConfigError: Something is not what it should be.
    """
    if not isinstance(outcome, tuple) or len(outcome) != 3:
        given = f"{len(outcome)} values" if isinstance(outcome, tuple) else f"one {type(outcome).__name__}"
        fix = ""
        if given == "5 values":  # as Gymnasium's step
            fix = "Leave truncated and info out: max_episode_steps is the time limit, and info a method of its own."
        raise _owes(env, f"step returned {given}", "three: the next state, the reward and terminated", fix)
    after, reward, terminated = outcome
    n = len(next(leaves(before)))
    _hold(env, "step returned a reward", reward, (n,))
    if reward.dtype not in (env.dtype, torch.float32):
        cast = "Return reward.to(self.dtype)."
        raise _owes(env, f"step returned a reward of type {reward.dtype}", f"{env.dtype}", cast)
    _hold(env, "step returned terminated", terminated, (n,), torch.bool)
    found = tuple(names(after)) if _is_tree(after) else None
    if found != tuple(names(before)):
        raise _owes(
            env,
            f"step returned a {type(after).__name__} as the next state",
            f"what reset returns, a {type(before).__name__}",
        )
    for name, old, new in zip(names(before), leaves(before), leaves(after), strict=True):
        _hold(env, f"step returned the state's {name}", new, tuple(old.shape), old.dtype)


def _is_tree(tree: Any) -> bool:
    try:
        return bool([*leaves(tree)])
    except TypeError:
        return False


def _owes(env: TensorEnv[Any], what: str, owed: str, fix: str = "") -> ConfigError:
    return ConfigError(f"{type(env).__name__}.{what}; it owes {owed}.", fix or "Return that, and nothing else.")


def _hold(env: TensorEnv[Any], what: str, value: Any, shape: tuple[int, ...], dtype: torch.dtype | None = None) -> None:
    if not isinstance(value, Tensor):
        owed = f"a tensor of shape {shape}{'' if dtype is None else f' and type {dtype}'} on self.device"
        raise ConfigError(f"{type(env).__name__}.{what} that is a {type(value).__name__}.", f"It owes {owed}.")
    if tuple(value.shape) != shape:
        raise ConfigError(
            f"{type(env).__name__}.{what} of shape {tuple(value.shape)} for {shape[0]} environments.",
            f"Its shape must be {shape}.",
        )
    if dtype is not None and value.dtype != dtype:
        raise ConfigError(f"{type(env).__name__}.{what} of type {value.dtype}.", f"Its type must be {dtype}.")
    if value.device.type != env.device.type:
        raise ConfigError(
            f"{type(env).__name__}.{what} on {value.device}, and the environment is on {env.device}.",
            "Make tensors with device=self.device.",
        )
