"""Action masks of Gymnasium environments, in whichever of the known ways they are given."""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from rltrain.errors import ConfigError
from rltrain.spaces import MASK

METHOD = "action_masks"
"""The method of an environment that sb3-contrib's MaskablePPO asks for a mask."""
LIKE_ONE = re.compile(r"(?i)action_?mask|(valid|legal|allowed|available|possible)_?(action|move)s?(_?mask)?")
"""Names by which environments give masks that nobody knows here."""


class MaskReader(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Reads the mask of the next action, and leaves the environment as it is.

    It is found in the observation's entry ``action_mask``, or asked from the environment's ``action_masks()``, or found
    in ``info["action_mask"]``, in this order.

    Args:
        env: The environment.

    Attributes:
        mask: (n,) int8, 1 for what is allowed now; None if there is no mask.
        convention: ``observation``, ``method``, ``info``, or empty: where the mask was last found.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        self.mask: NDArray[np.int8] | None = None
        self.convention = ""
        self._ask = env.get_wrapper_attr(METHOD) if env.has_wrapper_attr(METHOD) else None

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        """Resets, and reads the mask."""
        obs, info = self.env.reset(**options)
        self.read(obs, info)
        return obs, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Steps, and reads the mask."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        self.read(obs, info, ended=bool(terminated or truncated))
        return obs, reward, terminated, truncated, info

    @property
    def spec(self) -> Any:  # type: ignore[override]
        """The registration of the environment inside, which this does not change."""
        return self.env.spec

    def sample(self) -> Any:
        """A random action that the mask allows, from the action space's own generator."""
        return sample_allowed(self.env.action_space, self.mask)

    def read(self, obs: Any, info: dict[str, Any], *, ended: bool = False) -> None:
        """Reads the mask from what a reset or a step returned."""
        found: Any = None
        if isinstance(obs, dict) and MASK in obs:
            found, self.convention = obs[MASK], "observation"
        elif callable(self._ask):
            found, self.convention = self._ask(), "method"
        elif MASK in info:
            found, self.convention = info[MASK], "info"
        elif self.convention == "info" and self.mask is not None:
            if not ended:
                raise ValueError(f"info has no '{MASK}', which it had before")
            found = np.zeros_like(self.mask)
        self.mask = None if found is None else (np.asarray(found) != 0).astype(np.int8).ravel()


def sample_allowed(space: spaces.Space, mask: NDArray[np.int8] | None) -> Any:
    """A random action that a mask allows; of all, if it is None, allows nothing or does not fit."""
    draw: Any = type(space).sample
    if mask is not None and mask.any():
        if isinstance(space, spaces.Discrete) and mask.shape == (space.n,):
            return draw(space, mask=mask)
        if isinstance(space, spaces.MultiDiscrete) and mask.shape == (space.nvec.sum(),) and space.nvec.ndim == 1:
            return draw(space, mask=tuple(np.split(mask, np.cumsum(space.nvec)[:-1])))
    return draw(space)


@contextmanager
def masks_heeded(env: gymnasium.Env[Any, Any]) -> Iterator[None]:
    """Within it an environment takes an allowed action in place of a forbidden one, for code that knows of no masks."""
    reader, reset, step = MaskReader(env), env.reset, env.step

    @functools.wraps(reset)
    def reset_and_read(*args: Any, **options: Any) -> Any:
        result = reset(*args, **options)
        reader.read(*result)
        return result

    @functools.wraps(step)
    def step_and_read(action: Any) -> Any:
        result = step(_allowed(env.action_space, reader.mask, action))
        reader.read(result[0], result[-1], ended=bool(result[2] or result[3]))
        return result

    changed: Any = env
    changed.reset, changed.step = reset_and_read, step_and_read
    try:
        yield
    finally:
        del changed.reset, changed.step


def _allowed(space: spaces.Space, mask: NDArray[np.int8] | None, action: Any) -> Any:
    """The action, or the first allowed one where the mask forbids it."""
    if mask is None or not isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        return action
    sizes = np.ravel(space.n if isinstance(space, spaces.Discrete) else space.nvec)
    chosen = np.ravel(np.asarray(action) - space.start)
    for k, part in enumerate(np.split(mask, np.cumsum(sizes)[:-1])):
        if not part[chosen[k]] and part.any():
            chosen[k] = part.argmax()
    return np.asarray(chosen.reshape(np.shape(action)) + space.start, space.dtype)[()]


class MaskInObservation(MaskReader):
    """Puts the mask that the environment gives elsewhere into the observation, where agents look for it.

    An observation that is no Dict becomes its entry ``observation``.

    Args:
        env: The environment.
        size: Entries of the mask.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], size: int) -> None:
        super().__init__(env)
        space, mask = env.observation_space, spaces.MultiBinary(size)
        self._in_dict = isinstance(space, spaces.Dict)
        entries = dict(space.spaces) if isinstance(space, spaces.Dict) else {"observation": space}
        self.observation_space = spaces.Dict({**entries, MASK: mask})

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        """Resets, with the mask in the observation."""
        obs, info = super().reset(**options)
        return self._with(obs), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Steps, with the mask in the observation."""
        obs, reward, terminated, truncated, info = super().step(action)
        return self._with(obs), reward, terminated, truncated, info

    def _with(self, obs: Any) -> dict[str, Any]:
        return {**obs, MASK: self.mask} if self._in_dict else {"observation": obs, MASK: self.mask}


def stuck_row(masks: NDArray[Any], playing: NDArray[np.bool_], space: spaces.Space) -> int | None:
    """The first row whose episode goes on although no action is allowed; None if there is none.

    Args:
        masks: (N, n), not zero for what is allowed.
        playing: (N,) true where the episode goes on.
        space: The space of an action: a mask must allow something in each part of a MultiDiscrete.
    """
    starts = [0, *np.cumsum(space.nvec.ravel())[:-1]] if isinstance(space, spaces.MultiDiscrete) else [0]
    stuck = (np.add.reduceat(masks != 0, starts, axis=1, dtype=np.int64) == 0).any(1) & playing
    return int(stuck.argmax()) if stuck.any() else None


def advice_on_masks(env: gymnasium.Env[Any, Any], info: dict[str, Any]) -> str:
    """What to do where an environment that failed seems to give a mask under a name that is not known here.

    Args:
        env: The environment.
        info: What it gave beside its last observation.

    Returns:
        A sentence that begins with a space; empty where it gives a mask that is heeded, or none.
    """
    inside = env.unwrapped
    if env.has_wrapper_attr(METHOD) or MASK in info:
        return ""
    names = [f"info['{name}']" for name in info if LIKE_ONE.fullmatch(str(name))]
    names += [name for name in dir(inside) if LIKE_ONE.search(name) and not name.startswith("__")]
    if not names:
        return ""
    return f" If {names[0]} says which actions are allowed, give it as info['{MASK}'], or by a method {METHOD}()."


def mask_elsewhere(env: gymnasium.Env[Any, Any], info: dict[str, Any], id: str) -> int:
    """The entries of a mask that a reset environment gives outside its observation; 0 if it gives none.

    Args:
        env: The environment, which was just reset.
        info: What the reset gave beside the observation.
        id: Its id, for the error.

    Raises:
        ConfigError: It has another number of entries than there are actions to choose from.
    """
    space = env.observation_space
    if isinstance(space, spaces.Dict) and MASK in space.spaces:
        return 0
    where = f"info['{MASK}']"
    if env.has_wrapper_attr(METHOD) and callable(ask := env.get_wrapper_attr(METHOD)):
        found, where = ask(), f"{METHOD}()"
    else:
        found = info.get(MASK)
    match env.action_space:
        case spaces.Discrete(n=n):
            choices = int(n)
        case spaces.MultiDiscrete(nvec=nvec):
            choices = int(nvec.sum())
        case _:
            if found is not None:
                warnings.warn(
                    f"{where} of '{id}' is left aside: actions of {env.action_space} cannot be masked.", stacklevel=2
                )
            return 0
    if found is not None and np.size(found) != choices:
        raise ConfigError(
            f"{where} of '{id}' has {np.size(found)} entries, and there are {choices} actions to choose from.",
            "Give it one entry for each action, 1 where it is allowed, or leave it with --env.action-masks false.",
        )
    return 0 if found is None else choices
